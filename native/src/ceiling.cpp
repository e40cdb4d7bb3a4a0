// Twelve independent chains hide the latency of the dot product on every processor we know. Each
// burst is compiled for its own instruction set by attribute, uses no header of intrinsics and no
// inline function that another file shares, and is called only where dispatch found the set.
#include "ceiling.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <string>
#include <thread>

#include "threads.h"

namespace xlmr {
namespace {

constexpr double kChains = 12;
constexpr long kRoundsPerBurst = 4096;  // some 10 microseconds: the clock costs nothing beside it

#define XLMR_TWELVE(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)
#define XLMR_DECLARE(i) Vector chain##i = Vector{} + int(i);
// The bit patterns are ordinary numbers in every format: bytes, bf16 pairs and floats near 1 and 0.
#define XLMR_BURST(NAME, BYTES, ATTRIBUTE)                                       \
  ATTRIBUTE __attribute__((noinline)) void NAME(long rounds) {                   \
    typedef int Vector __attribute__((vector_size(BYTES)));                      \
    Vector x = Vector{} + 0x3f803f80, y = Vector{} + 0x30003000;                 \
    [[maybe_unused]] Vector ones = Vector{} + 0x00010001;                        \
    XLMR_TWELVE(XLMR_DECLARE)                                                    \
    for (long k = 0; k < rounds; k++) {                                          \
      XLMR_TWELVE(XLMR_STEP)                                                     \
    }                                                                            \
  }

#if defined(__x86_64__)

#define XLMR_STEP(i) asm volatile("vpdpbusd %2, %1, %0" : "+v"(chain##i) : "v"(x), "v"(y));
XLMR_BURST(avx512_int8, 64, __attribute__((target("avx512f,avx512vnni"))))
#undef XLMR_STEP
#define XLMR_STEP(i) asm volatile("vdpbf16ps %2, %1, %0" : "+v"(chain##i) : "v"(x), "v"(y));
XLMR_BURST(avx512_bf16, 64, __attribute__((target("avx512f,avx512bf16"))))
#undef XLMR_STEP
#define XLMR_STEP(i) asm volatile("vfmadd231ps %2, %1, %0" : "+v"(chain##i) : "v"(x), "v"(y));
XLMR_BURST(avx512_fp32, 64, __attribute__((target("avx512f"))))
#undef XLMR_STEP
#define XLMR_STEP(i) asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(chain##i) : "x"(x), "x"(y));
XLMR_BURST(avx2vnni_int8, 32, __attribute__((target("avx2"))))
#undef XLMR_STEP
// Without VNNI a dot product takes three instructions; they are what an AVX2 kernel has to pay.
#define XLMR_STEP(i)                                                                       \
  {                                                                                        \
    Vector pairs;                                                                          \
    asm volatile("vpmaddubsw %3, %2, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"       \
                 : "+x"(chain##i), "=&x"(pairs)                                            \
                 : "x"(x), "x"(y), "x"(ones));                                             \
  }
XLMR_BURST(avx2_int8, 32, __attribute__((target("avx2"))))
#undef XLMR_STEP
#define XLMR_STEP(i) asm volatile("vfmadd231ps %2, %1, %0" : "+x"(chain##i) : "x"(x), "x"(y));
XLMR_BURST(avx2_fp32, 32, __attribute__((target("avx2,fma"))))
#undef XLMR_STEP

#elif defined(__aarch64__)

#define XLMR_STEP(i) asm volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(chain##i) : "w"(x), "w"(y));
XLMR_BURST(neon_int8, 16, __attribute__((target("arch=armv8.2-a+dotprod"))))
#undef XLMR_STEP
#define XLMR_STEP(i) asm volatile("fmla %0.4s, %1.4s, %2.4s" : "+w"(chain##i) : "w"(x), "w"(y));
XLMR_BURST(neon_fp32, 16, )
#undef XLMR_STEP

#endif

// Whatever the compiler makes of a multiplication and an addition; a chain is one float.
void portable_fp32(long rounds) {
  volatile float source = 0.5f;
  const float x = source;
  float chains[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  for (long k = 0; k < rounds; k++)
    for (float& chain : chains) chain = chain * x + 1.0f;
  for (float chain : chains) source = chain;
}

struct Burst {
  const char* isa;
  const char* kind;
  void (*run)(long rounds);
  double operations;  // of one step of one chain
};

constexpr Burst kBursts[] = {
#if defined(__x86_64__)
    {"avx512bf16", "int8", avx512_int8, 128}, {"avx512bf16", "bf16", avx512_bf16, 64},
    {"avx512bf16", "fp32", avx512_fp32, 32},  {"avx512vnni", "int8", avx512_int8, 128},
    {"avx512vnni", "fp32", avx512_fp32, 32},  {"avx2vnni", "int8", avx2vnni_int8, 64},
    {"avx2vnni", "fp32", avx2_fp32, 16},      {"avx2", "int8", avx2_int8, 64},
    {"avx2", "fp32", avx2_fp32, 16},
#elif defined(__aarch64__)
    {"neon", "int8", neon_int8, 32},          {"neon", "fp32", neon_fp32, 8},
#endif
    {"portable", "fp32", portable_fp32, 2},
};

double one_thread(const Burst& burst, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  double passed = 0, rounds = 0;
  do {
    burst.run(kRoundsPerBurst);
    rounds += kRoundsPerBurst;
    passed = std::chrono::duration<double>(Clock::now() - begin).count();
  } while (passed < seconds);
  return rounds * kChains * burst.operations / passed / 1e9;
}

double all_threads(const Burst& burst, int threads, double seconds) {
  std::vector<double> rates(size_t(threads), 0.0);
  std::atomic<int> missing{threads};
  const auto work = [&](int thread) {
    missing--;
    while (missing > 0) std::this_thread::yield();  // begin together, or the last runs undisturbed
    rates[size_t(thread)] = one_thread(burst, seconds);
  };
  std::vector<std::thread> others;
  others.reserve(size_t(threads));
  try {
    for (int i = 1; i < threads; i++) others.emplace_back(work, i);
  } catch (const std::exception& fault) {
    missing = 0;
    for (std::thread& other : others) other.join();
    throw ThreadsFault("the system gave " + std::to_string(others.size() + 1) + " of " + std::to_string(threads) +
                       " threads (" + fault.what() + ")");
  }
  work(0);
  double total = 0;
  for (std::thread& other : others) other.join();
  for (double rate : rates) total += rate;
  return total;
}

}  // namespace

std::vector<Ceiling> measure_ceiling(const Kernels& kernels, int threads, double seconds) {
  std::vector<Ceiling> found;
  for (const Burst& burst : kBursts)
    if (std::strcmp(burst.isa, kernels.name) == 0)
      found.push_back({burst.kind, all_threads(burst, threads, seconds)});
  return found;
}

}  // namespace xlmr
