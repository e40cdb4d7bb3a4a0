// What the processor itself could do: nothing but dot products, from registers, on every thread. A
// share of this figure says how good a kernel is on any machine, and holds when the machine drifts.
#pragma once
#include <string>
#include <vector>

#include "kernels.h"

namespace xlmr {

struct Ceiling {
  std::string kind;    // int8, bf16 or fp32
  double giga_per_s;  // 1e9 operations a second, a multiply-add counted as two
};

// Measures each kind of dot product that the instruction set of `kernels` has an instruction for,
// `seconds` each, on `threads` threads at once. The portable kernels have fp32 alone.
std::vector<Ceiling> measure_ceiling(const Kernels& kernels, int threads, double seconds);

}  // namespace xlmr
