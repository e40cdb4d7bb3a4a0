// The kernels, written once over simd.h and compiled once per instruction set.
//
// Every output element is accumulated over the depth in one fixed order, whatever the number of rows
// in its tile, so an answer does not depend on which other texts share the batch.
#include <type_traits>

#include "kernels.h"
#include "simd.h"

namespace xlmr::XLMR_ISA {

// ---- tiles: MR rows times NS strips of 16 columns ------------------------------------------------

struct Bytes {
  using Acc = Int;
  static constexpr int kWords = 1;
  static inline Acc zero() { return zero_int(); }
  static inline __attribute__((always_inline)) void step(Acc& acc, Int w, const uint32_t* a) { dot_bytes(acc, w, broadcast_int(int32_t(*a))); }
};
struct Floats {
  using Acc = Float;
  static constexpr int kWords = 1;
  static inline Acc zero() { return broadcast(0.0f); }
  static inline __attribute__((always_inline)) void step(Acc& acc, Int w, const uint32_t* a) {
    dot_floats(acc, as_float(w), as_float(broadcast_int(int32_t(*a))));
  }
};
#if defined(XLMR_USE_BF16)
struct Halves {
  using Acc = Float;
  static constexpr int kWords = 1;
  static inline Acc zero() { return broadcast(0.0f); }
  static inline __attribute__((always_inline)) void step(Acc& acc, Int w, const uint32_t* a) { dot_halves(acc, w, broadcast_int(int32_t(*a))); }
};
#else
// bf16 weights against float activations: two words of activations a step.
struct Halves {
  using Acc = Float;
  static constexpr int kWords = 2;
  static inline Acc zero() { return broadcast(0.0f); }
  static inline __attribute__((always_inline)) void step(Acc& acc, Int w, const uint32_t* a) {
    dot_floats(acc, low_half(w), as_float(broadcast_int(int32_t(a[0]))));
    dot_floats(acc, high_half(w), as_float(broadcast_int(int32_t(a[1]))));
  }
};
#endif

// Inlined and unrolled by force: only then do the accumulators live in registers.
#define XLMR_INLINE static inline __attribute__((always_inline))
#define XLMR_UNROLL _Pragma("GCC unroll 16")

template <class Dot, int MR, int NV>
XLMR_INLINE void accumulate(const uint32_t* a, long a_stride, const uint32_t* b, long b_stride, long steps,
                              typename Dot::Acc (&acc)[MR][NV]) {
  XLMR_UNROLL
  for (int i = 0; i < MR; i++)
    XLMR_UNROLL
    for (int j = 0; j < NV; j++) acc[i][j] = Dot::zero();
  for (long k = 0; k < steps; k++) {
    Int w[NV];
    XLMR_UNROLL
    for (int j = 0; j < NV; j++) w[j] = load_int(b + j * kLanes);
    XLMR_UNROLL
    for (int i = 0; i < MR; i++)
      XLMR_UNROLL
      for (int j = 0; j < NV; j++) Dot::step(acc[i][j], w[j], a + i * a_stride);
    a += Dot::kWords;
    b += b_stride;
  }
}

// Calls `use(row, column, accumulator)` for every vector of the MR x NS tile.
template <class Dot, int MR, int NS, class Use>
XLMR_INLINE void tile(const uint32_t* a, long a_stride, const uint32_t* b, long b_stride, long steps, Use&& use) {
  constexpr int NV = NS * kPerStrip;
  typename Dot::Acc acc[MR][NV];
  accumulate<Dot, MR, NV>(a, a_stride, b, b_stride, steps, acc);
  XLMR_UNROLL
  for (int i = 0; i < MR; i++)
    XLMR_UNROLL
    for (int j = 0; j < NV; j++) use(i, long(j) * kLanes, acc[i][j]);
}

template <class Dot, int NS, class Use>
static inline void tile_rows(int rows, const uint32_t* a, long a_stride, const uint32_t* b, long b_stride, long steps,
                             Use&& use) {
  switch (rows) {
    case 1: return tile<Dot, 1, NS>(a, a_stride, b, b_stride, steps, use);
    case 2: return tile<Dot, 2, NS>(a, a_stride, b, b_stride, steps, use);
#if !defined(XLMR_PORTABLE)
    case 3: return tile<Dot, 3, NS>(a, a_stride, b, b_stride, steps, use);
    case 4: return tile<Dot, 4, NS>(a, a_stride, b, b_stride, steps, use);
    case 5: return tile<Dot, 5, NS>(a, a_stride, b, b_stride, steps, use);
    case 6: return tile<Dot, 6, NS>(a, a_stride, b, b_stride, steps, use);
#endif
  }
}

// Rows [0, rows) times `strips` strips; rows are dealt evenly so that no tile is much smaller.
// `use(row, column, accumulator)` counts from the block's corner.
template <class Dot, class Use>
static inline void block(long rows, long strips, const uint32_t* a, long a_stride, const uint32_t* b, long b_stride,
                         long steps, Use&& use) {
  const long tiles = (rows + kRows - 1) / kRows;
  for (long s = 0; s < strips; s += kStrips) {
    const uint32_t* strip = b + s * kStrip;
    for (long t = 0, r = 0; t < tiles; t++) {
      const int count = int((rows - r + tiles - t - 1) / (tiles - t));
      const uint32_t* from = a + r * a_stride;
      auto shifted = [&](int i, long column, typename Dot::Acc acc) { use(r + i, s * kStrip + column, acc); };
      if constexpr (kStrips == 1) {
        tile_rows<Dot, 1>(count, from, a_stride, strip, b_stride, steps, shifted);
      } else {
        switch (strips - s) {
          case 1: tile_rows<Dot, 1>(count, from, a_stride, strip, b_stride, steps, shifted); break;
          case 2: tile_rows<Dot, 2>(count, from, a_stride, strip, b_stride, steps, shifted); break;
          case 3: tile_rows<Dot, 3>(count, from, a_stride, strip, b_stride, steps, shifted); break;
          default: tile_rows<Dot, 4>(count, from, a_stride, strip, b_stride, steps, shifted);
        }
      }
      r += count;
    }
  }
}

// ---- functions of one vector -----------------------------------------------------------------------

constexpr float kLog2E = 1.44269504f;

// e^x for x <= 88: 2^n * 2^f with |f| <= 1/2 and 2^f by a degree-6 minimax polynomial (error 2e-8).
static inline Float exponential(Float x) {
  x = max(x, broadcast(-87.0f));
  const Float n = round(mul(x, broadcast(kLog2E)));
  Float f = fma(n, broadcast(-0.693145752f), x);  // ln 2 in two parts, so that f stays exact
  f = fma(n, broadcast(-1.42860677e-6f), f);
  Float p = broadcast(1.0f / 720);
  p = fma(p, f, broadcast(1.0f / 120));
  p = fma(p, f, broadcast(1.0f / 24));
  p = fma(p, f, broadcast(1.0f / 6));
  p = fma(p, f, broadcast(0.5f));
  p = fma(p, f, broadcast(1.0f));
  p = fma(p, f, broadcast(1.0f));
  return times_power_of_two(p, n);
}

// 2^x for x <= 1, good to 7.6e-5 of its size: for weights that are rounded to bf16 (4e-3) next.
static inline Float power_of_two_quick(Float x) {
  x = max(x, broadcast(-125.0f));
  const Float n = round(x), f = sub(x, n);
  Float p = broadcast(0.05517010763287544f);
  p = fma(p, f, broadcast(0.24260863661766052f));
  p = fma(p, f, broadcast(0.6932610273361206f));
  p = fma(p, f, broadcast(0.9999282360076904f));
  return times_power_of_two(p, n);
}

#include "gelu.h"

// ---- matrix products --------------------------------------------------------------------------------

static inline void store_half_vector(uint16_t* p, Float v) {
#if defined(XLMR_USE_BF16)
  store_bf16(p, v);
#else
  float lanes[kLanes];
  store(lanes, v);
  for (int i = 0; i < kLanes; i++) {
    uint32_t bits;
    std::memcpy(&bits, &lanes[i], 4);
    p[i] = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
#endif
}

template <Finish F, bool kQuick>
static inline void finish(const Product& p, long row, long column, Float value) {
  float* out = static_cast<float*>(p.out) + row * p.out_stride + column;
  if constexpr (F == Finish::kFloat) store(out, value);
  if constexpr (F == Finish::kGelu) store(out, kQuick ? gelu_quick(value) : gelu(value));
  if constexpr (F == Finish::kResidual)
    store(out, add(value, load(p.residual + row * p.residual_stride + column)));
  if constexpr (F == Finish::kHalf)
    store_half_vector(static_cast<uint16_t*>(p.out) + row * p.out_stride + column, value);
}

template <class Dot, Finish F>
static void product_as(const Product& p, long row_begin, long row_end, long panel_begin, long panel_end) {
  const Matrix& m = *p.matrix;
  const uint32_t* a = p.in.words + row_begin * p.in.stride;
  for (long panel = panel_begin; panel < panel_end; panel++) {
    const long first = panel * kPanel;
    const uint32_t* b = m.panels + first * m.steps;
    block<Dot>(row_end - row_begin, kPanel / kStrip, a, p.in.stride, b, kPanel, m.steps,
               [&](long i, long j, typename Dot::Acc acc) {
                 const long row = row_begin + i, column = first + j;
                 if constexpr (F == Finish::kSums) {
                   if constexpr (kUnsignedWeights) acc = sub_int(acc, broadcast_int(p.in.correction[row]));
                   store_int(static_cast<int32_t*>(p.out) + row * p.out_stride + column, acc);
                 } else if constexpr (std::is_same_v<Dot, Bytes>) {
                   if constexpr (kUnsignedWeights) acc = sub_int(acc, broadcast_int(p.in.correction[row]));
                   const Float scale = mul(broadcast(p.in.scale[row]), load(m.scale + column));
                   finish<F, true>(p, row, column, fma(to_float(acc), scale, load(m.bias + column)));
                 } else {
                   finish<F, std::is_same_v<Dot, Halves>>(p, row, column, add(acc, load(m.bias + column)));
                 }
               });
  }
}

template <class Dot>
static void product(const Product& p, long row_begin, long row_end, long panel_begin, long panel_end) {
  if (row_begin >= row_end) return;
  switch (p.finish) {
    case Finish::kFloat: return product_as<Dot, Finish::kFloat>(p, row_begin, row_end, panel_begin, panel_end);
    case Finish::kHalf: return product_as<Dot, Finish::kHalf>(p, row_begin, row_end, panel_begin, panel_end);
    case Finish::kGelu: return product_as<Dot, Finish::kGelu>(p, row_begin, row_end, panel_begin, panel_end);
    case Finish::kResidual: return product_as<Dot, Finish::kResidual>(p, row_begin, row_end, panel_begin, panel_end);
    case Finish::kSums:
      if constexpr (std::is_same_v<Dot, Bytes>)
        return product_as<Dot, Finish::kSums>(p, row_begin, row_end, panel_begin, panel_end);
  }
}

// ---- rows -----------------------------------------------------------------------------------------

// The largest size in a row; NaN or infinity if there is one.
static float largest_size(const float* row, long width) {
  const long whole = width / kLanes * kLanes;
  Int sizes = zero_int();
  for (long i = 0; i < whole; i += kLanes) sizes = larger_size(sizes, load(row + i));
  int32_t most = largest_int(sizes);
  for (long i = whole; i < width; i++) {
    int32_t bits;
    std::memcpy(&bits, row + i, 4);
    bits &= 0x7fffffff;
    if (bits > most) most = bits;
  }
  float size;
  std::memcpy(&size, &most, 4);
  return size;
}

static bool all_finite(const float* row, long width) { return largest_size(row, width) < INFINITY; }

template <bool kFactor>
XLMR_INLINE Float element(const float* row, const float* factor, long i) {
  if constexpr (kFactor) return mul(load(row + i), load(factor + i));
  return load(row + i);
}

template <bool kFactor>
static bool to_bytes_as(const float* row, const float* factor, long width, int8_t* out, float* scale,
                        int32_t* correction) {
  Int sizes = zero_int();
  for (long i = 0; i < width; i += kLanes) sizes = larger_size(sizes, element<kFactor>(row, factor, i));
  const int32_t bits = largest_int(sizes);
  float most;
  std::memcpy(&most, &bits, 4);
  if (!(most < INFINITY)) {
    std::memset(out, 0, size_t(width));
    *scale = NAN;
    *correction = 0;
    return false;
  }
  // Smaller rows become zeros: 127 over their largest could be infinite.
  const Float by = broadcast(most >= 1e-30f ? 127.0f / most : 0.0f);
  Int total = zero_int();
  for (long i = 0; i < width; i += kLanes)
    total = add_int(total, store_s8(out + i, mul(element<kFactor>(row, factor, i), by)));
  *scale = most / 127.0f;
  *correction = 128 * sum_int(total);
  return true;
}

static bool to_bytes(const float* row, const float* factor, long width, int8_t* out, float* scale,
                     int32_t* correction) {
  return factor == nullptr ? to_bytes_as<false>(row, factor, width, out, scale, correction)
                           : to_bytes_as<true>(row, factor, width, out, scale, correction);
}

static void to_halves(const float* row, long width, uint16_t* out) {
  for (long i = 0; i < width; i += kLanes) store_half_vector(out + i, load(row + i));
}

static bool norm(const float* in, long width, const float* gain, const float* bias, float epsilon, float* out) {
  const long whole = width / kLanes * kLanes;
  Float total = broadcast(0.0f);
  for (long i = 0; i < whole; i += kLanes) total = add(total, load(in + i));
  float mean = sum(total);
  for (long i = whole; i < width; i++) mean += in[i];
  mean /= float(width);
  const Float middle = broadcast(mean);
  Float squares = broadcast(0.0f);
  for (long i = 0; i < whole; i += kLanes) {
    const Float d = sub(load(in + i), middle);
    squares = fma(d, d, squares);
  }
  float variance = sum(squares);
  for (long i = whole; i < width; i++) variance += (in[i] - mean) * (in[i] - mean);
  // What overflowed on the way here is infinite or NaN by now. One over infinity would be zero, and
  // every such row the same finite answer.
  const bool finite = variance < INFINITY;
  const float by = finite ? 1.0f / std::sqrt(variance / float(width) + epsilon) : NAN;
  const Float factor = broadcast(by);
  for (long i = 0; i < whole; i += kLanes)
    store(out + i, fma(mul(sub(load(in + i), middle), factor), load(gain + i), load(bias + i)));
  for (long i = whole; i < width; i++) out[i] = (in[i] - mean) * by * gain[i] + bias[i];
  return finite;
}

static void embed(const int8_t* bytes, float scale, const float* position, long width, float* out) {
  const Float by = broadcast(scale);
  for (long i = 0; i < width; i += kLanes) store(out + i, fma(load_s8(bytes + i), by, load(position + i)));
}

#include "attention.h"

}  // namespace xlmr::XLMR_ISA

const xlmr::Kernels xlmr::XLMR_TABLE = {
    XLMR_NAME,
    xlmr::XLMR_ISA::kBf16Dot,
    xlmr::XLMR_ISA::kBf16Dot,
    {xlmr::XLMR_ISA::product<xlmr::XLMR_ISA::Bytes>, xlmr::XLMR_ISA::product<xlmr::XLMR_ISA::Halves>,
     xlmr::XLMR_ISA::product<xlmr::XLMR_ISA::Floats>},
    xlmr::XLMR_ISA::to_bytes,
    xlmr::XLMR_ISA::to_halves,
    xlmr::XLMR_ISA::norm,
    xlmr::XLMR_ISA::embed,
    xlmr::XLMR_ISA::all_finite,
    xlmr::XLMR_ISA::attend,
};
