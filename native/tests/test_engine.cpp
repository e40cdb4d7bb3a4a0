// The engine over tiny random encoders: the same bits in any company, close to fp32 in any precision,
// and over when it is cancelled.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "check.h"
#include "tables.h"
#include "tiny.h"

using namespace xlmr;
using namespace xlmr::test;

namespace {

constexpr Precision kPrecisions[] = {Precision::kInt8, Precision::kBf16, Precision::kFp32};

// Under a thread sanitizer only what threads do differently matters: the best kernels will do.
std::vector<Table> engine_tables() {
  std::vector<Table> found = tables();
#if defined(__SANITIZE_THREAD__)
  return {{find_kernels("auto"), false}};
#endif
  return found;
}

bool same(const std::vector<float>& a, const float* b) { return std::memcmp(a.data(), b, a.size() * 4) == 0; }

void any_company(const Shape& shape, const Table& table, Precision precision, TinyEngines& engines, Random& random) {
  const auto one = engines.open(precision, table.kernels, 1);
  const auto two = engines.open(precision, table.kernels, 2);
  const auto many = engines.open(precision, table.kernels, 5);
  for (int round = 0; round < (table.slow || kQuick ? 2 : 6); round++) {
    Texts texts;
    const long longest = round % 2 == 0 ? 20 : kQuick ? 60 : 130;
    const long most = (round % 2 == 0 ? 40 : 12) / (table.slow ? 4 : kQuick ? 2 : 1);
    for (long n = random.between(1, most); n > 0; n--)
      texts.add(shape, random.between(1, longest), random);
    const std::vector<float> together = run(*two, texts);
    EXPECT(std::all_of(together.begin(), together.end(), [](float x) { return std::isfinite(x); }), "%s: not finite",
           table->name);
    EXPECT(same(run(*one, texts), together.data()), "%s precision %d: one thread", table->name, int(precision));
    EXPECT(same(run(*many, texts), together.data()), "%s precision %d: five threads", table->name, int(precision));
    const std::vector<float> first = run(*two, texts, true);
    for (long text = 0; text < texts.count(); text++) {
      const float* rows = together.data() + texts.starts[size_t(text)] * shape.hidden;
      EXPECT(std::equal(rows, rows + shape.hidden, first.begin() + text * shape.hidden), "%s precision %d: first rows",
             table->name, int(precision));
      if (text % 5 == 0)
        EXPECT(same(run(*two, texts.alone(text)), rows), "%s precision %d: text %ld alone", table->name, int(precision),
               text);
    }
  }
}

CASE(the_same_bits_alone_in_a_batch_and_on_any_threads) {
  Random random(1);
  for (const Shape& shape : {kTiny, kTinyPreNorm}) {
    TinyEngines engines(shape);
    for (const Table& table : engine_tables())
      for (const Precision precision : kPrecisions) any_company(shape, table, precision, engines, random);
  }
}

CASE(batches_of_several_chunks_and_texts_of_several_blocks) {
  Random random(2);
  TinyEngines engines(kNarrow);
  Texts texts;
  // More than 1,024 tokens are two chunks, more than 256 of one text two pieces of attention.
  const std::vector<long> lengths = kQuick ? std::vector<long>{530, 3, 500, 1} : std::vector<long>{700, 3, 1, 513, 512, 30};
  for (const long length : lengths) texts.add(kNarrow, length, random);
  for (const Table& table : engine_tables()) {
    if (table.slow || (kQuick && table.kernels != find_kernels("auto"))) continue;
    const auto one = engines.open(Precision::kInt8, table.kernels, 1), three = engines.open(Precision::kInt8, table.kernels, 3);
    const std::vector<float> together = run(*three, texts);
    EXPECT(same(run(*one, texts), together.data()), "%s: one thread", table->name);
    for (long text = 0; text < texts.count(); text += 3)
      EXPECT(same(run(*three, texts.alone(text)), together.data() + texts.starts[size_t(text)] * kNarrow.hidden),
             "%s: text %ld alone", table->name, text);
  }
}

CASE(buffers_that_grew_give_the_same_bits) {
  Random random(3);
  TinyEngines engines(kTiny);
  const auto engine = engines.open(Precision::kInt8, find_kernels("auto"), 2);
  Texts small, large;
  for (int i = 0; i < 3; i++) small.add(kTiny, 7, random);
  for (int i = 0; i < 30; i++) large.add(kTiny, 100, random);
  const std::vector<float> before = run(*engine, small);
  run(*engine, large);
  run(*engine, large, true);
  EXPECT(same(run(*engine, small), before.data()), "after a large batch");
}

double least_cosine(const std::vector<float>& a, const std::vector<float>& b, long width) {
  double least = 1;
  for (size_t row = 0; row < a.size(); row += size_t(width)) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = row; i < row + size_t(width); i++) {
      ab += double(a[i]) * b[i], aa += double(a[i]) * a[i], bb += double(b[i]) * b[i];
    }
    least = std::min(least, ab / std::sqrt(aa * bb));
  }
  return least;
}

CASE(every_table_and_precision_agrees_with_portable_fp32) {
  Random random(4);
  for (const Shape& shape : {kTiny, kTinyPreNorm}) {
    TinyEngines engines(shape);
    Texts texts;
    for (const long length : {1L, 2L, 17L, 64L, 30L}) texts.add(shape, length, random);
    const std::vector<float> expected = run(*engines.open(Precision::kFp32, &portable_kernels, 1), texts);
    for (const Table& table : engine_tables())
      for (const Precision precision : kPrecisions) {
        const std::vector<float> got = run(*engines.open(precision, table.kernels, 2), texts);
        double most = 0;
        for (size_t i = 0; i < got.size(); i++) most = std::max(most, std::fabs(double(got[i]) - expected[i]));
        if (precision == Precision::kFp32) EXPECT(most <= 1e-5, "%s: %g from portable fp32", table->name, most);
        const double cosine = least_cosine(got, expected, shape.hidden);
        EXPECT(cosine > (precision == Precision::kInt8 ? 0.995 : 0.9999), "%s precision %d: cosine %.6f", table->name,
               int(precision), cosine);
      }
  }
}

CASE(callers_take_turns) {
  Random random(5);
  TinyEngines engines(kTiny);
  const auto engine = engines.open(Precision::kInt8, find_kernels("auto"), 2);
  std::vector<Texts> batches(6);
  std::vector<std::vector<float>> expected;
  for (Texts& texts : batches) {
    for (int i = 0; i < 5; i++) texts.add(kTiny, random.between(1, 40), random);
    expected.push_back(run(*engine, texts));
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (size_t caller = 0; caller < batches.size(); caller++)
    callers.emplace_back([&, caller] {
      for (int i = 0; i < 10; i++) wrong += !same(run(*engine, batches[caller]), expected[caller].data());
    });
  for (auto& caller : callers) caller.join();
  EXPECT(wrong == 0, "%d of 60 differ", wrong.load());
}

// ---- cancelling ------------------------------------------------------------------------------------

// Slow enough to be caught in the middle: a whole run is many times what one layer takes.
struct LongWork {
  Shape shape{50, kQuick ? 64 : 128, 24, 2, kQuick ? 256 : 512, 600, 1, 1e-5, 0};
  TinyEngines engines{shape};
  std::unique_ptr<Engine> engine = engines.open(Precision::kFp32, find_kernels("auto"), 2);
  Texts texts;
  LongWork() {
    Random random(6);
    for (int i = 0; i < (kQuick ? 2 : 8); i++) texts.add(shape, 500, random);
  }
};

bool is_cancelled(Engine& engine, const Texts& texts) {
  try {
    run(engine, texts);
    return false;
  } catch (const Cancelled&) {
    return true;
  }
}

CASE(cancelling_ends_a_long_run_and_leaves_the_engine_sound) {
  LongWork work;
  Texts small;
  Random random(8);
  small.add(work.shape, 20, random);
  const std::vector<float> expected = run(*work.engine, small);
  for (int round = 0; round < 3; round++) {
    std::atomic<bool> began{false}, cancelled{false}, over{false};
    std::thread caller([&] {
      began = true;
      cancelled = is_cancelled(*work.engine, work.texts);
      over = true;
    });
    while (!began) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(round));
    while (!over) {  // the run may not have begun at the first
      work.engine->cancel();
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    caller.join();
    EXPECT(cancelled, "ran to its end");
    EXPECT(same(run(*work.engine, small), expected.data()), "a run after a cancelled one differs");
  }
}

// Whoever closes an engine wants everybody out, also those who wait for their turn.
CASE(cancelling_also_ends_the_runs_that_wait_for_their_turn) {
  LongWork work;
  int most = 0;
  // Nobody can see that a thread waits inside run(), so: give them time, and another chance.
  for (int chance = 0; chance < 5 && most < 4; chance++) {
    std::atomic<int> began{0}, cancelled{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; i++)
      callers.emplace_back([&] {
        std::vector<float> out(work.texts.ids.size() * size_t(work.shape.hidden));
        began++;
        try {
          work.engine->run(work.texts.ids.data(), work.texts.starts.data(), work.texts.count(), false, out.data());
        } catch (const Cancelled&) {
          cancelled++;
        }
      });
    while (began < 4) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    work.engine->cancel();
    for (auto& caller : callers) caller.join();
    most = std::max(most, cancelled.load());
  }
  EXPECT(most == 4, "%d of 4 were cancelled", most);
}

CASE(cancelling_when_nothing_runs_does_nothing) {
  TinyEngines engines(kTiny);
  const auto engine = engines.open(Precision::kInt8, find_kernels("auto"), 2);
  Random random(7);
  Texts texts;
  texts.add(kTiny, 9, random);
  const std::vector<float> before = run(*engine, texts);
  engine->cancel();
  EXPECT(same(run(*engine, texts), before.data()), "after an idle cancel");
}

}  // namespace
