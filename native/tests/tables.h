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

// All that this processor runs, the portable one first.
std::vector<Table> tables();

// The same, and the 256-bit VNNI one where the processor has AVX2 but not that dot product, which is
// then emulated (vex_dot.h) at some microseconds an instruction.
std::vector<Table> tables_and_emulated();

}  // namespace xlmr::test
