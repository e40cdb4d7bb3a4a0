#include "tables.h"

#include <stdexcept>

#include "check.h"
#include "vex_dot.h"

namespace xlmr::test {

std::vector<Table> tables() {
  std::vector<Table> found{{&portable_kernels, kQuick}};
  for (const char* name : {"neon", "avx2", "avx2vnni", "avx512vnni", "avx512bf16"}) {
    try {
      if (const Kernels* kernels = find_kernels(name)) found.push_back({kernels, false});
    } catch (const std::invalid_argument&) {  // of another architecture
      continue;
    }
  }
  return found;
}

std::vector<Table> tables_and_emulated() {
  std::vector<Table> found = tables();
#if defined(__x86_64__)
  if (find_kernels("avx2") != nullptr && find_kernels("avx2vnni") == nullptr && emulate_vex_dot())
    found.push_back({&avx2vnni_kernels, true});
#endif
  return found;
}

}  // namespace xlmr::test
