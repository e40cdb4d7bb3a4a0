// The whole test harness: cases register themselves, EXPECT counts what is wrong and goes on, and
// check.cpp holds main().
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace xlmr::test {

struct Case {
  const char* name;
  void (*run)();
  Case* next;
  static Case*& first() {
    static Case* list = nullptr;
    return list;
  }
  Case(const char* name_, void (*run_)()) : name(name_), run(run_), next(first()) { first() = this; }
};

// Prints where and what; ends the program after the twentieth.
void failed(const char* file, int line, const char* condition);

#define CASE(name)                                               \
  static void name();                                            \
  static const ::xlmr::test::Case register_##name(#name, &name); \
  static void name()

// EXPECT(condition, format, values...): the rest is printed when the condition is false.
#define EXPECT(condition, ...)                                 \
  do {                                                         \
    if (!(condition)) {                                        \
      std::fprintf(stderr, __VA_ARGS__);                       \
      ::xlmr::test::failed(__FILE__, __LINE__, #condition);    \
    }                                                          \
  } while (false)

// Under sanitizers and emulators the same cases do less of the same work.
#if defined(XLMR_QUICK)
constexpr bool kQuick = true;
#else
constexpr bool kQuick = false;
#endif

// splitmix64: the same numbers everywhere.
struct Random {
  uint64_t state;
  explicit Random(uint64_t seed) : state(seed) {}
  uint64_t bits() {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  long between(long low, long high) { return low + long(bits() % uint64_t(high - low + 1)); }
  float uniform() { return float(bits() >> 40) * 0x1p-23f - 1.0f; }  // [-1, 1)
};

// Memory on a cache line with nothing behind the last byte, so that a sanitizer sees every step
// beyond it; filled with 0xff, which is NaN in every float format.
template <class T>
struct Exact {
  T* data = nullptr;
  explicit Exact(long count) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, size_t(count) * sizeof(T)) != 0) std::abort();
    std::memset(memory, 0xff, size_t(count) * sizeof(T));
    data = static_cast<T*>(memory);
  }
  ~Exact() { std::free(data); }
  Exact(const Exact&) = delete;
  Exact& operator=(const Exact&) = delete;
  T& operator[](long i) { return data[i]; }
  const T& operator[](long i) const { return data[i]; }
};

inline uint16_t to_bf16(float x) {  // to nearest, ties to even; not for NaN
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline float from_bf16(uint16_t half) {
  const uint32_t bits = uint32_t(half) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

}  // namespace xlmr::test
