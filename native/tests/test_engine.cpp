// The engine over tiny random encoders: the same bits in any company, close to fp32 in any precision,
// and over when it is cancelled.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "check.h"
#include "layout.h"
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

// ---- numbers that are none -------------------------------------------------------------------------

// A prepared file as it should be.
std::vector<char> sound_file(const Shape& shape, Precision precision) {
  const TemporaryFile file;
  prepare_random(file.path, shape, precision, 1);
  return file.read();
}

// The same file with one number changed, under checksums that fit: preparing would refuse it.
struct BrokenFile {
  TemporaryFile file;

  BrokenFile(std::vector<char> content, const Shape& shape, Precision precision, Section wanted,
             const std::string& name, long column, float bad) {
    size_t at = kHeaderBytes;
    bool found = false;
    visit_sections(shape, precision, [&](Section kind, const std::string& section, long, long, size_t bytes) {
      if (kind == wanted && section == name) {
        const bool halves = precision == Precision::kBf16 && (kind == Section::kMatrix || kind == Section::kWords);
        const uint16_t half = bad != bad ? 0x7fc0 : to_bf16(bad);
        std::memcpy(&content[at + size_t(column) * (halves ? 2 : 4)], halves ? static_cast<const void*>(&half) : &bad,
                    halves ? 2 : 4);
        found = true;
      }
      at += on_line(bytes);
    });
    Header header;
    std::memcpy(&header, content.data(), sizeof header);
    const uint64_t piece = checksum(content.data() + kHeaderBytes, content.size() - kHeaderBytes, 0);
    header.checksum = checksum(&piece, sizeof piece, 0);
    header.own = checksum(&header, offsetof(Header, own), kVersion);
    std::memcpy(content.data(), &header, sizeof header);
    if (!found) std::abort();
    file.write(content.data(), content.size());
  }

  std::unique_ptr<Engine> open(const Shape& shape, Precision precision, const Kernels* kernels, int threads) const {
    return std::make_unique<Engine>(std::make_unique<Weights>(file.path, shape, precision, kDigest), kernels, threads);
  }
};

// Where the engine says it noticed something; empty if it gave an answer.
std::string place_of(Engine& engine, const Texts& texts, bool first_rows) {
  try {
    run(engine, texts, first_rows);
    return "";
  } catch (const NotFinite& fault) {
    const std::string what = fault.what();
    return what.substr(what.rfind(" in ") + 4);
  }
}

struct Break {
  Section kind;
  std::string name;
  long column;
  long layer;  // -1: the embeddings
};

std::vector<Break> breaks(const Shape& s, Precision precision) {
  const bool int8 = precision == Precision::kInt8;
  // The first token's id is 7, its position the first.
  std::vector<Break> found{{Section::kPositions, "embeddings.position", (s.pad_id + 1) * s.width() + 5, -1}};
  if (int8) found.push_back({Section::kWordScale, "embeddings.word", 7, -1});
  else found.push_back({Section::kWords, "embeddings.word", 7 * s.width() + 5, -1});
  const auto norm = [&](const std::string& name, long layer) {
    found.push_back({Section::kGain, name, 3, layer});
    found.push_back({Section::kBias, name, long(s.hidden) - 1, layer});
  };
  if (s.pre_norm) norm("final_norm", s.layers - 1);
  else norm("embeddings.norm", -1);
  for (const long layer : {0L, long(s.layers) - 1}) {
    const std::string of = "layers." + std::to_string(layer) + ".";
    norm(of + "attention_norm", layer);
    norm(of + "output_norm", layer);
    for (const char* name : {"qkv", "output", "up", "down"})
      for (const long column : name[0] == 'q' ? std::vector<long>{2, s.width() + 2, 2 * s.width() + 2} : std::vector<long>{2}) {
        found.push_back({Section::kMatrixBias, of + name, column, layer});
        if (int8) found.push_back({Section::kMatrixScale, of + name, column, layer});
        else if (column == 2) found.push_back({Section::kMatrix, of + name, 2, layer});
      }
  }
  return found;
}

std::string place(long layer) { return layer < 0 ? "the embeddings" : "layer " + std::to_string(layer); }

CASE(a_number_that_is_none_is_never_an_answer) {
  Random random(11);
  for (const Shape& shape : {kTiny, kTinyPreNorm}) {
    Texts texts;
    for (const long length : {1L, 2L, 30L}) texts.add(shape, length, random);
    for (int32_t& id : texts.ids) id = 8 + id % 40;
    texts.ids[0] = 7;
    for (const Precision precision : kPrecisions) {
      const std::vector<char> sound = sound_file(shape, precision);
      for (const Break& one : breaks(shape, precision))
        for (const float bad : {NAN, INFINITY, -INFINITY}) {
          if (kQuick && bad == -INFINITY) continue;
          const BrokenFile broken(sound, shape, precision, one.kind, one.name, one.column, bad);
          for (const Table& table : engine_tables()) {
            const auto engine = broken.open(shape, precision, table.kernels, 1);
            for (const bool first_rows : {false, true}) {
              const std::string noticed = place_of(*engine, texts, first_rows);
              // int8 looks at every operand, the others at every norm: at worst the next one.
              const bool right = noticed == place(one.layer) ||
                                 (precision != Precision::kInt8 && noticed == place(one.layer + 1));
              EXPECT(right, "%s precision %d%s: %g in %s (%d) at %ld: noticed in '%s'", table->name, int(precision),
                     shape.pre_norm ? " pre-norm" : "", double(bad), one.name.c_str(), int(one.kind), one.column,
                     noticed.c_str());
            }
          }
        }
    }
  }
}

// Who did not ask for the broken row gets the bits of a sound model, also after somebody did.
CASE(a_broken_row_of_the_vocabulary_leaves_no_trace) {
  Random random(12);
  for (const Shape& shape : {kTiny, kTinyPreNorm}) {
    TinyEngines engines(shape);
    Texts bad, good;
    for (const long length : {40L, 70L}) bad.add(shape, length, random), good.add(shape, length, random);
    for (int32_t& id : good.ids) id = 8 + id % 40;
    bad.ids[50] = 7;
    for (const Table& table : engine_tables())
      for (const Precision precision : kPrecisions) {
        const Break broken_row = breaks(shape, precision)[1];
        const BrokenFile broken(sound_file(shape, precision), shape, precision, broken_row.kind, broken_row.name, broken_row.column, NAN);
        const std::vector<float> expected = run(*engines.open(precision, table.kernels, 2), good);
        const auto engine = broken.open(shape, precision, table.kernels, 2);
        EXPECT(same(run(*engine, good), expected.data()), "%s precision %d", table->name, int(precision));
        EXPECT(!place_of(*engine, bad, false).empty(), "%s precision %d", table->name, int(precision));
        EXPECT(same(run(*engine, good), expected.data()), "%s precision %d: afterwards", table->name, int(precision));
      }
  }
}

// ---- beside other processes -------------------------------------------------------------------------

// The kernels of this processor, but that a thread other than the caller's stays away in the middle of
// its first block of rows until the caller has computed all the others.
struct Away {
  static inline const Kernels* real;
  static inline std::thread::id caller;
  static inline long others;  // products the caller has to finish meanwhile
  static inline std::atomic<long> by_caller;
  static inline std::atomic<bool> away, in_vain;

  static bool wait_for(bool (*condition)()) {
    for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20); !condition();) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }

  static void product(const Product& product, long row_begin, long row_end, long panel_begin, long panel_end) {
    if (std::this_thread::get_id() == caller) {
      if (!wait_for([] { return away.load(); })) in_vain = true;
    } else if (!away.exchange(true)) {
      if (!wait_for([] { return by_caller >= others; })) in_vain = true;
    }
    real->product[int(Precision::kInt8)](product, row_begin, row_end, panel_begin, panel_end);
    if (std::this_thread::get_id() == caller) by_caller++;
  }
};

CASE(a_thread_that_is_away_leaves_its_rows_to_the_others) {
  Random random(13);
  TinyEngines engines(kTiny);
  Kernels kernels = *find_kernels("auto");
  Away::real = find_kernels("auto");
  kernels.product[int(Precision::kInt8)] = Away::product;
  Texts texts;
  for (int i = 0; i < 4; i++) texts.add(kTiny, 125, random);
  const std::vector<float> expected = run(*engines.open(Precision::kInt8, Away::real, 2), texts);
  Away::caller = std::this_thread::get_id();
  Away::others = 11;  // 500 rows for two threads are twelve blocks of at most 48
  Away::by_caller = 0, Away::away = false, Away::in_vain = false;
  const auto engine = engines.open(Precision::kInt8, &kernels, 2);
  EXPECT(same(run(*engine, texts), expected.data()), "other bits");
  EXPECT(!Away::in_vain && Away::away, "one thread's rows waited for it");
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

CASE(what_is_given_up_ends_and_other_runs_do_not) {
  LongWork work;
  std::atomic<bool> given_up_ended{false};
  uint8_t given_up = 0;
  std::vector<float> out(work.texts.ids.size() * size_t(work.shape.hidden));
  std::thread caller([&] {
    try {
      work.engine->run(work.texts.ids.data(), work.texts.starts.data(), work.texts.count(), false, out.data(), &given_up);
    } catch (const Cancelled&) {
      given_up_ended = true;
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  __atomic_store_n(&given_up, uint8_t(1), __ATOMIC_RELAXED);
  EXPECT(!is_cancelled(*work.engine, work.texts), "another run was ended");
  caller.join();
  EXPECT(given_up_ended, "ran to its end");
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
