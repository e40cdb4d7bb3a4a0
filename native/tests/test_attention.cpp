// Attention of every kernel table against plain loops in double precision.
#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "tables.h"

using namespace xlmr;
using namespace xlmr::test;

namespace {

// As the engine keeps them: rows of queries, keys and values of all heads side by side. The head
// tested is the last of two, so its last value ends where the memory does, but for the engine's slack
// of 64 bytes.
struct Text {
  long length, width, stride;
  Exact<char> floats, halves;  // the same numbers twice; bf16 holds them exactly
  std::vector<double> expected, largest;

  // `sharpness` multiplies the queries: at 30 one key takes nearly all of the weight.
  Text(long length_, long width_, float sharpness, uint64_t seed)
      : length(length_), width(width_), stride(6 * width_), floats(length_ * stride * 4 + 64),
        halves(length_ * stride * 2 + 64), expected(size_t(length_ * width_)), largest(size_t(width_), 0) {
    Random random(seed);
    for (long i = 0; i < length * stride; i++) {
      const bool query = i % stride < 2 * width;
      const uint16_t half = to_bf16(random.uniform() * (query ? sharpness : 1.0f));
      const float value = from_bf16(half);
      std::memcpy(floats.data + i * 4, &value, 4);
      std::memcpy(halves.data + i * 2, &half, 2);
    }
    const auto at = [&](long token, long part, long column) {
      float value;
      std::memcpy(&value, floats.data + (token * stride + (2 * part + 1) * width + column) * 4, 4);
      return double(value);
    };
    std::vector<double> queries(expected.size()), keys(expected.size()), values(expected.size());
    for (long t = 0; t < length; t++)
      for (long c = 0; c < width; c++) {
        const size_t i = size_t(t * width + c);
        queries[i] = at(t, 0, c), keys[i] = at(t, 1, c), values[i] = at(t, 2, c);
        largest[size_t(c)] = std::max(largest[size_t(c)], std::fabs(values[i]));
      }
    std::vector<double> weights(static_cast<size_t>(length));
    for (long q = 0; q < length; q++) {
      double top = -INFINITY, total = 0;
      for (long k = 0; k < length; k++) {
        double score = 0;
        for (long c = 0; c < width; c++) score += queries[size_t(q * width + c)] * keys[size_t(k * width + c)];
        weights[size_t(k)] = score;
        top = std::max(top, score);
      }
      for (double& weight : weights) total += weight = std::exp(weight - top);
      for (long k = 0; k < length; k++)
        for (long c = 0; c < width; c++)
          expected[size_t(q * width + c)] += weights[size_t(k)] / total * values[size_t(k * width + c)];
    }
  }

  Attention job(bool half) const {
    const char* row = half ? halves.data + width * 2 : floats.data + width * 4;
    const long part = 2 * width * (half ? 2 : 4);
    Attention job;
    job.query = row, job.key = row + part, job.value = row + 2 * part;
    job.stride = stride, job.length = length, job.width = width;
    return job;
  }
};

// Queries [begin, end); the row behind them must stay as it was.
std::vector<float> attend(const Table& table, const Text& text, bool half, long begin, long end) {
  const long out_stride = text.width + 8;
  Exact<float> out((end - begin) * out_stride);
  Exact<char> scratch(attention_scratch(text.width));
  std::fill(out.data, out.data + (end - begin) * out_stride, 7.5f);
  Attention job = text.job(half);
  job.query_begin = begin, job.query_end = end, job.out = out.data, job.out_stride = out_stride;
  table->attend(job, half, scratch.data);
  std::vector<float> result;
  for (long r = 0; r < end - begin; r++) {
    const float* row = out.data + r * out_stride;
    result.insert(result.end(), row, row + text.width);
    EXPECT(std::all_of(row + text.width, row + out_stride, [](float x) { return x == 7.5f; }),
           "%s: wrote beside row %ld of length %ld width %ld", table->name, r, text.length, text.width);
  }
  return result;
}

// fp32: 2e-5 of the largest value: scores up to 60 keep 5e-6 in the exponent. bf16: the weights are
// rounded to 8 bits (a relative 2^-9 each, 2e-3 of the largest value at worst) and e^x is good to
// 7.6e-5; the queries, keys and values here are bf16 exactly.
void compare(const Table& table, const Text& text, bool half, const std::vector<float>& got, long begin) {
  for (size_t i = 0; i < got.size(); i++) {
    const size_t column = i % size_t(text.width);
    const double wanted = text.expected[size_t(begin * text.width) + i];
    const double allowed = (half ? 2.5e-3 : 2e-5) * text.largest[column];
    EXPECT(std::fabs(got[i] - wanted) <= allowed, "%s%s: length %ld width %ld query %ld column %zu: %.8g, not %.8g",
           table->name, half ? " in bf16" : "", text.length, text.width, begin + long(i) / text.width, column,
           double(got[i]), wanted);
  }
}

void every_table(const Text& text, Random& random) {
  for (const Table& table : tables())
    for (const bool half : {false, true}) {
      if (half && !table->half_attention) continue;
      const std::vector<float> whole = attend(table, text, half, 0, text.length);
      compare(table, text, half, whole, 0);
      // The same bits whichever part of the queries is asked for.
      const long begin = random.between(0, text.length - 1), end = random.between(begin + 1, text.length);
      for (const auto& [from, to] : {std::pair{begin, end}, {0L, 1L}, {text.length - 1, text.length}}) {
        const std::vector<float> part = attend(table, text, half, from, to);
        EXPECT(std::equal(part.begin(), part.end(), whole.begin() + from * text.width),
               "%s%s: queries %ld to %ld of %ld differ from all at once, width %ld", table->name,
               half ? " in bf16" : "", from, to, text.length, text.width);
      }
    }
}

CASE(every_length_from_1_to_130) {
  Random random(1);
  for (const long width : {8L, 32L, 64L})
    for (long length = 1; length <= 130; length += kQuick && width > 8 && length > 34 && length < 124 ? 5 : 1)
      every_table(Text(length, width, 3.0f, uint64_t(length)), random);
}

CASE(widths_that_are_no_multiple_of_a_vector) {
  Random random(2);
  for (const long width : {16L, 24L, 40L, 48L, 80L, 96L, 128L})
    for (const long length : {1L, 2L, 15L, 33L, 65L, 100L}) every_table(Text(length, width, 2.0f, 7), random);
}

CASE(texts_of_more_than_one_block_of_keys) {
  Random random(3);
  for (const long length : {511L, 512L, 513L, 514L, 577L})
    for (const long width : {8L, 64L})
      if (!kQuick || width == 8 || length == 513) every_table(Text(length, width, 3.0f, uint64_t(length)), random);
  if (!kQuick) every_table(Text(1025, 32, 3.0f, 9), random);
}

// A NaN or an infinity in a key, a query or a value, early and late in a text of two blocks: every
// query that has to do with it gives NaN, and no other changes. A score of minus infinity would have
// weight zero, a NaN may be dropped by the maximum and by the bounds of the exponential.
CASE(what_is_not_finite_stays_so) {
  for (const Table& table : tables())
    for (const bool half : {false, true}) {
      if (half && !table->half_attention) continue;
      for (const long length : {1L, 2L, 21L, 530L})
        for (const float bad : {NAN, INFINITY, -INFINITY})
          for (const long token : {0L, length / 2, length - 1})
            for (const long part : {0L, 1L, 2L}) {
              const long width = 8;
              const Text text(length, width, 1.0f, 3);
              const std::vector<float> before = attend(table, text, half, 0, length);
              const long at = token * text.stride + (2 * part + 1) * width + 3;
              const uint16_t bad_half = bad != bad ? 0x7fc0 : to_bf16(bad);
              std::memcpy(text.floats.data + at * 4, &bad, 4);
              std::memcpy(text.halves.data + at * 2, &bad_half, 2);
              const std::vector<float> got = attend(table, text, half, 0, length);
              for (long q = 0; q < length; q++)
                for (long c = 0; c < width; c++) {
                  const float x = got[size_t(q * width + c)];
                  const bool touched = part == 0 ? q == token : part == 1 || c == 3;
                  EXPECT(touched ? !std::isfinite(x) : x == before[size_t(q * width + c)],
                         "%s%s: %g in part %ld of token %ld of %ld: query %ld column %ld is %g", table->name,
                         half ? " in bf16" : "", double(bad), part, token, length, q, c, double(x));
                }
            }
    }
}

CASE(one_key_takes_all_the_weight) {
  Random random(4);
  for (const long length : {3L, 64L, 130L, 520L}) every_table(Text(length, 8, 30.0f, uint64_t(length)), random);
}

}  // namespace
