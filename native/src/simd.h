// One thin layer over each instruction set: a vector of `kLanes` floats or 32-bit integers and the
// three dot products the engine is built on. Included once per instruction set, inside the
// namespace XLMR_ISA, from a file compiled with that set's flags; nothing here may be `inline` in a
// shared namespace, or the linker could hand AVX-512 code to an old processor.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(XLMR_USE_AVX512) || defined(XLMR_USE_AVX2)
#include <immintrin.h>
#elif defined(XLMR_USE_NEON)
#include <arm_neon.h>
#endif

namespace xlmr::XLMR_ISA {

// Columns are handled in strips of 16 whatever the vector width; a strip is `kPerStrip` vectors.
constexpr int kStrip = 16;

#if defined(XLMR_USE_AVX512)

constexpr int kLanes = 16;
constexpr int kRows = 6;    // rows of a tile ...
constexpr int kStrips = 4;  // ... times strips: 24 accumulators + 4 weights + 1 broadcast of 32 registers
constexpr bool kUnsignedWeights = true;  // the dot product reads weights as w + 128
using Float = __m512;
using Int = __m512i;

static inline Float load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, Float v) { _mm512_storeu_ps(p, v); }
static inline Float broadcast(float x) { return _mm512_set1_ps(x); }
static inline Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
static inline Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
static inline Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
static inline Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
static inline Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
static inline Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
static inline Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
static inline float sum(Float a) { return _mm512_reduce_add_ps(a); }
static inline float largest(Float a) { return _mm512_reduce_max_ps(a); }
static inline Float round(Float a) { return _mm512_roundscale_ps(a, 8); }
static inline Float times_power_of_two(Float a, Float n) { return _mm512_scalef_ps(a, n); }
static inline Int zero_int() { return _mm512_setzero_si512(); }
static inline Int load_int(const void* p) { return _mm512_loadu_si512(p); }
static inline void store_int(int32_t* p, Int v) { _mm512_storeu_si512(p, v); }
static inline Int broadcast_int(int32_t x) { return _mm512_set1_epi32(x); }
static inline Int sub_int(Int a, Int b) { return _mm512_sub_epi32(a, b); }
static inline Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }
static inline Float as_float(Int a) { return _mm512_castsi512_ps(a); }
static inline Float low_half(Int a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
static inline Float high_half(Int a) {
  return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32(int(0xffff0000u))));
}
static inline Float load_s8(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
// Rounds to nearest even and stores as signed bytes; returns the integers for the row's sum.
static inline Int store_s8(int8_t* p, Float v) {
  Int i = _mm512_cvtps_epi32(v);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(i));
  return i;
}
// Sizes are compared as integers: NaN and infinity then lie above every number, whereas a maximum of
// floats drops NaN or keeps it by the order of its operands.
static inline Int larger_size(Int sizes, Float v) {
  return _mm512_max_epi32(sizes, _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff)));
}
static inline int32_t largest_int(Int a) { return _mm512_reduce_max_epi32(a); }
static inline Int add_int(Int a, Int b) { return _mm512_add_epi32(a, b); }
static inline int32_t sum_int(Int a) {  // the intrinsic for this ends in a sum of ints that must not wrap
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
  __m128i x = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

// to[j][i] = from[i][j] for a square of kLanes words.
static inline void transpose(const uint32_t* from, long stride, uint32_t* to, long to_stride) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(from + i * stride);
  for (int i = 0; i < 8; i++) {  // pairs of rows
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {  // fours: a[4i + c] holds column c of each 128-bit lane
    a[4 * i + 0] = _mm512_unpacklo_epi64(b[4 * i + 0], b[4 * i + 2]);
    a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i + 0], b[4 * i + 2]);
    a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
    a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
  }
  for (int c = 0; c < 4; c++) {  // then the lanes themselves, a 4 x 4 square of them
    const __m512i low01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x44), high01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xee);
    const __m512i low23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x44), high23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xee);
    _mm512_storeu_si512(to + (c + 0) * to_stride, _mm512_shuffle_i32x4(low01, low23, 0x88));
    _mm512_storeu_si512(to + (c + 4) * to_stride, _mm512_shuffle_i32x4(low01, low23, 0xdd));
    _mm512_storeu_si512(to + (c + 8) * to_stride, _mm512_shuffle_i32x4(high01, high23, 0x88));
    _mm512_storeu_si512(to + (c + 12) * to_stride, _mm512_shuffle_i32x4(high01, high23, 0xdd));
  }
}

// One instruction each, in assembly: with the intrinsics GCC 12 spills the accumulators inside the
// loop and halves the speed.
static inline void dot_bytes(Int& acc, Int weights, Int activations) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(weights), "v"(activations));
}
static inline void dot_floats(Float& acc, Float weights, Float activations) {
  asm("vfmadd231ps %2, %1, %0" : "+v"(acc) : "v"(weights), "v"(activations));
}
#if defined(XLMR_USE_BF16)
constexpr bool kBf16Dot = true;
static inline void dot_halves(Float& acc, Int weights, Int activations) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(weights), "v"(activations));
}
static inline void store_bf16(uint16_t* p, Float v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
}
#else
constexpr bool kBf16Dot = false;
#endif

#elif defined(XLMR_USE_AVX2)

constexpr int kLanes = 8;
constexpr int kRows = 6;
constexpr int kStrips = 1;  // 12 accumulators + 2 weights + 1 broadcast of 16 registers
constexpr bool kUnsignedWeights = true;
constexpr bool kBf16Dot = false;
using Float = __m256;
using Int = __m256i;

static inline Float load(const float* p) { return _mm256_loadu_ps(p); }
static inline void store(float* p, Float v) { _mm256_storeu_ps(p, v); }
static inline Float broadcast(float x) { return _mm256_set1_ps(x); }
static inline Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
static inline Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
static inline Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
static inline Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
static inline Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
static inline Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
static inline Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
static inline float sum(Float a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
static inline float largest(Float a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}
static inline Float round(Float a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// n must lie in [-126, 127].
static inline Float times_power_of_two(Float a, Float n) {
  Int exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(a, _mm256_castsi256_ps(exponent));
}
static inline Int zero_int() { return _mm256_setzero_si256(); }
static inline Int load_int(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
static inline void store_int(int32_t* p, Int v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
static inline Int broadcast_int(int32_t x) { return _mm256_set1_epi32(x); }
static inline Int sub_int(Int a, Int b) { return _mm256_sub_epi32(a, b); }
static inline Int add_int(Int a, Int b) { return _mm256_add_epi32(a, b); }
static inline Int larger_size(Int sizes, Float v) {
  return _mm256_max_epi32(sizes, _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff)));
}
static inline int32_t largest_int(Int a) {
  __m128i x = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  x = _mm_max_epi32(x, _mm_shuffle_epi32(x, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}
static inline Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
static inline Float as_float(Int a) { return _mm256_castsi256_ps(a); }
static inline Float low_half(Int a) { return _mm256_castsi256_ps(_mm256_slli_epi32(a, 16)); }
static inline Float high_half(Int a) {
  return _mm256_castsi256_ps(_mm256_and_si256(a, _mm256_set1_epi32(int(0xffff0000u))));
}
static inline Float load_s8(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
static inline Int store_s8(int8_t* p, Float v) {
  Int i = _mm256_cvtps_epi32(v);
  __m128i shorts = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(shorts, shorts));
  return i;
}
static inline int32_t sum_int(Int a) {
  __m128i x = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}
#if defined(XLMR_USE_AVXVNNI)
static inline void dot_bytes(Int& acc, Int weights, Int activations) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(weights), "x"(activations));
}
#else
// `vpmaddubsw` saturates at 16 bits; widening the even and the odd bytes first keeps sums exact.
static inline void dot_bytes(Int& acc, Int weights, Int activations) {
  const Int even_mask = _mm256_set1_epi16(0x00ff);
  Int even = _mm256_madd_epi16(_mm256_and_si256(weights, even_mask),
                               _mm256_srai_epi16(_mm256_slli_epi16(activations, 8), 8));
  Int odd = _mm256_madd_epi16(_mm256_srli_epi16(weights, 8), _mm256_srai_epi16(activations, 8));
  acc = _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
}
#endif
static inline void dot_floats(Float& acc, Float weights, Float activations) {
  acc = _mm256_fmadd_ps(weights, activations, acc);
}

#elif defined(XLMR_USE_NEON)

constexpr int kLanes = 4;
constexpr int kRows = 6;
constexpr int kStrips = 1;  // 24 accumulators + 4 weights + 1 broadcast of 32 registers
constexpr bool kUnsignedWeights = false;  // the dot product reads weights as signed bytes
constexpr bool kBf16Dot = false;
using Float = float32x4_t;
using Int = int32x4_t;

static inline Float load(const float* p) { return vld1q_f32(p); }
static inline void store(float* p, Float v) { vst1q_f32(p, v); }
static inline Float broadcast(float x) { return vdupq_n_f32(x); }
static inline Float add(Float a, Float b) { return vaddq_f32(a, b); }
static inline Float sub(Float a, Float b) { return vsubq_f32(a, b); }
static inline Float mul(Float a, Float b) { return vmulq_f32(a, b); }
static inline Float div(Float a, Float b) { return vdivq_f32(a, b); }
static inline Float fma(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
static inline Float max(Float a, Float b) { return vmaxq_f32(a, b); }
static inline Float min(Float a, Float b) { return vminq_f32(a, b); }
static inline float sum(Float a) { return vaddvq_f32(a); }
static inline float largest(Float a) { return vmaxvq_f32(a); }
static inline Float round(Float a) { return vrndnq_f32(a); }
static inline Float times_power_of_two(Float a, Float n) {
  Int exponent = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23);
  return vmulq_f32(a, vreinterpretq_f32_s32(exponent));
}
static inline Int zero_int() { return vdupq_n_s32(0); }
static inline Int load_int(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
static inline void store_int(int32_t* p, Int v) { vst1q_s32(p, v); }
static inline Int broadcast_int(int32_t x) { return vdupq_n_s32(x); }
static inline Int sub_int(Int a, Int b) { return vsubq_s32(a, b); }
static inline Int add_int(Int a, Int b) { return vaddq_s32(a, b); }
static inline Int larger_size(Int sizes, Float v) {
  return vmaxq_s32(sizes, vandq_s32(vreinterpretq_s32_f32(v), vdupq_n_s32(0x7fffffff)));
}
static inline int32_t largest_int(Int a) { return vmaxvq_s32(a); }
static inline Float to_float(Int a) { return vcvtq_f32_s32(a); }
static inline Float as_float(Int a) { return vreinterpretq_f32_s32(a); }
static inline Float low_half(Int a) { return vreinterpretq_f32_s32(vshlq_n_s32(a, 16)); }
static inline Float high_half(Int a) {
  return vreinterpretq_f32_s32(vandq_s32(a, vdupq_n_s32(int(0xffff0000u))));
}
static inline Float load_s8(const int8_t* p) {
  int32_t bytes;
  std::memcpy(&bytes, p, 4);
  int16x8_t shorts = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(bytes)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(shorts)));
}
static inline Int store_s8(int8_t* p, Float v) {
  Int i = vcvtnq_s32_f32(v);
  int16x4_t shorts = vqmovn_s32(i);
  int8x8_t bytes = vqmovn_s16(vcombine_s16(shorts, shorts));
  int32_t packed = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
  std::memcpy(p, &packed, 4);
  return i;
}
static inline int32_t sum_int(Int a) { return vaddvq_s32(a); }
static inline void dot_bytes(Int& acc, Int weights, Int activations) {
  int8x16_t w = vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s32(weights), vdupq_n_u8(0x80)));
  acc = vdotq_s32(acc, w, vreinterpretq_s8_s32(activations));
}
static inline void dot_floats(Float& acc, Float weights, Float activations) {
  acc = vfmaq_f32(acc, weights, activations);
}

#else  // portable: plain C++, the floor every other set is tested against

constexpr int kLanes = 4;
constexpr int kRows = 2;
constexpr int kStrips = 1;
constexpr bool kUnsignedWeights = true;
constexpr bool kBf16Dot = false;
struct Float { float v[kLanes]; };
struct Int { int32_t v[kLanes]; };

#define XLMR_EACH(expression)                 \
  R r;                                        \
  for (int i = 0; i < kLanes; i++) r.v[i] = (expression); \
  return r
static inline Float load(const float* p) { Float r; std::memcpy(r.v, p, sizeof r.v); return r; }
static inline void store(float* p, Float v) { std::memcpy(p, v.v, sizeof v.v); }
static inline Float broadcast(float x) { using R = Float; XLMR_EACH(x); }
static inline Float add(Float a, Float b) { using R = Float; XLMR_EACH(a.v[i] + b.v[i]); }
static inline Float sub(Float a, Float b) { using R = Float; XLMR_EACH(a.v[i] - b.v[i]); }
static inline Float mul(Float a, Float b) { using R = Float; XLMR_EACH(a.v[i] * b.v[i]); }
static inline Float div(Float a, Float b) { using R = Float; XLMR_EACH(a.v[i] / b.v[i]); }
// Not fused: baseline processors have no such instruction and calling libm for it is slow.
static inline Float fma(Float a, Float b, Float c) { using R = Float; XLMR_EACH(a.v[i] * b.v[i] + c.v[i]); }
static inline Float max(Float a, Float b) { using R = Float; XLMR_EACH(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
static inline Float min(Float a, Float b) { using R = Float; XLMR_EACH(a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
static inline float sum(Float a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
static inline float largest(Float a) {
  float r = a.v[0];
  for (int i = 1; i < kLanes; i++) r = a.v[i] > r ? a.v[i] : r;
  return r;
}
static inline Float round(Float a) { using R = Float; XLMR_EACH(std::nearbyintf(a.v[i])); }
static inline Float times_power_of_two(Float a, Float n) { using R = Float; XLMR_EACH(std::ldexp(a.v[i], int(n.v[i] < 999.0f ? n.v[i] : 999.0f))); }
static inline Int zero_int() { return Int{}; }
static inline Int load_int(const void* p) { Int r; std::memcpy(r.v, p, sizeof r.v); return r; }
static inline void store_int(int32_t* p, Int v) { std::memcpy(p, v.v, sizeof v.v); }
static inline Int broadcast_int(int32_t x) { using R = Int; XLMR_EACH(x); }
// Sums wrap, as they do in every vector instruction.
static inline Int sub_int(Int a, Int b) { using R = Int; XLMR_EACH(int32_t(uint32_t(a.v[i]) - uint32_t(b.v[i]))); }
static inline Int add_int(Int a, Int b) { using R = Int; XLMR_EACH(int32_t(uint32_t(a.v[i]) + uint32_t(b.v[i]))); }
static inline Int larger_size(Int sizes, Float v) {
  for (int i = 0; i < kLanes; i++) {
    int32_t bits;
    std::memcpy(&bits, &v.v[i], 4);
    bits &= 0x7fffffff;
    if (bits > sizes.v[i]) sizes.v[i] = bits;
  }
  return sizes;
}
static inline int32_t largest_int(Int a) {
  int32_t most = a.v[0];
  for (int i = 1; i < kLanes; i++) most = a.v[i] > most ? a.v[i] : most;
  return most;
}
static inline Float to_float(Int a) { using R = Float; XLMR_EACH(float(a.v[i])); }
static inline Float as_float(Int a) { Float r; std::memcpy(r.v, a.v, sizeof r.v); return r; }
static inline Float low_half(Int a) {
  for (auto& x : a.v) x = int32_t(uint32_t(x) << 16);
  return as_float(a);
}
static inline Float high_half(Int a) {
  for (auto& x : a.v) x = int32_t(uint32_t(x) & 0xffff0000u);
  return as_float(a);
}
static inline Float load_s8(const int8_t* p) { using R = Float; XLMR_EACH(float(p[i])); }
static inline Int store_s8(int8_t* p, Float v) {
  Int r;
  for (int i = 0; i < kLanes; i++) {
    r.v[i] = int32_t(std::nearbyintf(v.v[i]));
    p[i] = int8_t(r.v[i]);
  }
  return r;
}
static inline int32_t sum_int(Int a) {
  uint32_t sum = 0;
  for (int32_t x : a.v) sum += uint32_t(x);
  return int32_t(sum);
}
static inline void dot_bytes(Int& acc, Int weights, Int activations) {
  uint8_t w[4 * kLanes];
  int8_t a[4 * kLanes];
  std::memcpy(w, weights.v, sizeof w);
  std::memcpy(a, activations.v, sizeof a);
  for (int i = 0; i < kLanes; i++)
    for (int k = 0; k < 4; k++) acc.v[i] += int32_t(w[4 * i + k]) * a[4 * i + k];
}
static inline void dot_floats(Float& acc, Float weights, Float activations) {
  for (int i = 0; i < kLanes; i++) acc.v[i] += weights.v[i] * activations.v[i];
}
#undef XLMR_EACH
#endif

#if !defined(XLMR_USE_AVX512)
// to[j][i] = from[i][j] for a square of kLanes words.
static inline void transpose(const uint32_t* from, long stride, uint32_t* to, long to_stride) {
  for (int i = 0; i < kLanes; i++)
    for (int j = 0; j < kLanes; j++) to[j * to_stride + i] = from[i * stride + j];
}
#endif

constexpr int kPerStrip = kStrip / kLanes;

}  // namespace xlmr::XLMR_ISA
