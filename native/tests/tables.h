// The kernel tables that can be tested here.
#pragma once
#include <vector>

#include "kernels.h"

namespace xlmr::test {

struct Table {
  const Kernels* kernels;
  bool slow;  // plain C++ under a sanitizer, or one instruction is emulated: give it less work
  const Kernels* operator->() const { return kernels; }
};

// All that this processor runs, the portable one first. Where the processor has AVX2 but not the
// 256-bit VNNI dot product, that one instruction is emulated (vex_dot.h) and its table is here too.
std::vector<Table> tables();

}  // namespace xlmr::test
