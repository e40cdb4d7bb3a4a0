// Which kernels this processor can run.
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace xlmr {
namespace {

struct Choice {
  const Kernels* kernels;
  bool (*runs_here)();
};

bool always() { return true; }

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
// Not known to every compiler's __builtin_cpu_supports: leaf 7, subleaf 1, EAX bits 4 and 5.
unsigned leaf_7_1() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) ? a : 0;
}
bool has_avx2vnni() { return has_avx2() && (leaf_7_1() >> 4 & 1); }
bool has_avx512bf16() { return has_avx512() && (leaf_7_1() >> 5 & 1); }
constexpr Choice kChoices[] = {
    {&avx512bf16_kernels, has_avx512bf16}, {&avx512vnni_kernels, has_avx512}, {&avx2vnni_kernels, has_avx2vnni},
    {&avx2_kernels, has_avx2},             {&portable_kernels, always},
};
#elif defined(__aarch64__)
bool has_dot_product() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
constexpr Choice kChoices[] = {{&neon_kernels, has_dot_product}, {&portable_kernels, always}};
#else
constexpr Choice kChoices[] = {{&portable_kernels, always}};
#endif

}  // namespace

const Kernels* find_kernels(const char* name) {
  const bool best = std::strcmp(name, "auto") == 0;
  bool known = best;
  for (const Choice& choice : kChoices) {
    const bool named = std::strcmp(name, choice.kernels->name) == 0;
    known |= named;
    if ((best || named) && choice.runs_here()) return choice.kernels;
  }
  if (!known) throw std::invalid_argument(std::string("no kernels named ") + name + " in this build");
  return nullptr;
}

long attention_scratch(long width) {
  const long padded = round_up(width, 16);
  const long words = 512 * width + 512 / 2 * padded + 12 * (512 + 16) + kQueryChunk * (padded + 2);
  return 4 * words;
}

}  // namespace xlmr
