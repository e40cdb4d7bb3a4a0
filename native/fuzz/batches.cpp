// Batches of any lengths and ids, through every table and precision: every answer is finite, and the
// last text alone gives the bits it gave in the batch.
//
// An input: one byte each for shape, precision, table, threads and rows; then texts, each a byte for
// its length and a byte for every id.
#include <algorithm>
#include <cmath>

#include "target.h"
#include "tables.h"
#include "tiny.h"

using namespace xlmr;
using namespace xlmr::test;

namespace {

Engine& engine_of(int pre_norm, int precision, size_t table, int threads) {
  static TinyEngines files[2] = {TinyEngines(kTiny), TinyEngines(kTinyPreNorm)};
  static std::map<std::tuple<int, int, size_t, int>, std::unique_ptr<Engine>> engines;
  static const std::vector<Table> all = tables();
  table %= all.size();
  auto& engine = engines[{pre_norm, precision, table, threads}];
  if (engine == nullptr) engine = files[pre_norm].open(Precision(precision), all[table].kernels, threads);
  return *engine;
}

}  // namespace

std::vector<uint8_t> example() { return {0, 0, 0, 1, 0, 3, 0, 7, 2, 1, 9, 5, 0, 8, 8, 8, 2}; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input{data, size};
  const int pre_norm = input.byte() % 2, precision = input.byte() % 3;
  const size_t table = input.byte();
  const int threads = 1 + input.byte() % 3;
  const bool first_rows = input.byte() % 2 != 0;
  Engine& engine = engine_of(pre_norm, precision, table, threads);
  const Shape& shape = engine.shape();
  Texts texts;
  while (input.left > 0 && texts.ids.size() < 400) {
    const long length = 1 + input.byte() % shape.max_tokens();
    for (long i = 0; i < length; i++) texts.ids.push_back(int32_t(input.byte() % shape.vocabulary));
    texts.starts.push_back(int32_t(texts.ids.size()));
  }
  const std::vector<float> together = run(engine, texts, first_rows);
  if (!std::all_of(together.begin(), together.end(), [](float x) { return std::isfinite(x); })) std::abort();
  if (texts.count() == 0) return 0;
  const std::vector<float> alone = run(engine, texts.alone(texts.count() - 1), first_rows);
  if (!std::equal(alone.begin(), alone.end(), together.end() - long(alone.size()))) std::abort();
  return 0;
}
