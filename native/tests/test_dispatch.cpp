// Which kernels this processor gets. XLMR_EXPECT, where it is set, names the ones it must be.
#include <stdexcept>
#include <string>

#include "check.h"
#include "kernels.h"
#include "tables.h"

using namespace xlmr;
using namespace xlmr::test;

namespace {

CASE(the_best_kernels_are_named_and_run_here) {
  const std::string best = find_kernels("auto")->name;
  std::string all;
  for (const Table& table : tables_and_emulated()) all += std::string(" ") + table->name;
  std::printf("     auto is %s; tested:%s\n", best.c_str(), all.c_str());
  EXPECT(find_kernels(best.c_str()) == find_kernels("auto"), "%s", best.c_str());
  EXPECT(find_kernels("portable") == &portable_kernels, "portable is always there");
  if (const char* expected = std::getenv("XLMR_EXPECT")) EXPECT(best == expected, "%s, not %s", best.c_str(), expected);
}

CASE(an_unknown_name_is_an_error_and_a_missing_one_is_null) {
  bool refused = false;
  try {
    find_kernels("sse9");
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  EXPECT(refused, "sse9");
}

}  // namespace
