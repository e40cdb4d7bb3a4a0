// What is done row by row, and what a product does to its sums on the way out, against plain loops
// in double precision.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "tables.h"

using namespace xlmr;
using namespace xlmr::test;

namespace {

constexpr long kWidths[] = {64, 128, 384, 768, 1024, 1152, 1536, 3072, 4096};

// Rows of different size and shape: even, with outliers, tiny, constant, empty.
void fill(float* row, long width, long kind, Random& random) {
  for (long i = 0; i < width; i++) {
    const float x = random.uniform();
    row[i] = kind == 0 ? x : kind == 1 ? (i % 61 == 7 ? 90 * x : x) : kind == 2 ? 1e-20f * x : kind == 3 ? -2.5f : 0.0f;
  }
}

void bytes_of(const Table& table, const float* row, long width) {
  Exact<int8_t> out(width), wanted(width);
  float scale, wanted_scale;
  int32_t correction, wanted_correction;
  table->to_bytes(row, nullptr, width, out.data, &scale, &correction);
  portable_kernels.to_bytes(row, nullptr, width, wanted.data, &wanted_scale, &wanted_correction);
  const double most = std::fabs(*std::max_element(
      row, row + width, [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
  int32_t total = 0;
  for (long i = 0; i < width; i++) {
    total += out[i];
    EXPECT(out[i] >= -127, "%s: %d at %ld", table->name, out[i], i);
    // To the nearest, but for the rounding of 127 / most before.
    EXPECT(std::fabs(out[i] * most / 127 - row[i]) <= most / 127 * 0.50001, "%s: %g became %d of %g", table->name,
           double(row[i]), out[i], most);
    EXPECT(out[i] == wanted[i], "%s: byte %ld is %d, not %d as the portable one", table->name, i, out[i], wanted[i]);
  }
  EXPECT(correction == 128 * total, "%s: correction %d of %d", table->name, correction, total);
  EXPECT(scale == wanted_scale && std::fabs(scale - most / 127) <= 1e-7 * most, "%s: scale %g", table->name,
         double(scale));
}

CASE(to_bytes_rounds_to_nearest_and_sums_what_it_wrote) {
  Random random(1);
  for (const Table& table : tables())
    for (const long width : kWidths)
      for (long kind = 0; kind < 5; kind++) {
        Exact<float> row(width);
        fill(row.data, width, kind, random);
        bytes_of(table, row.data, width);
      }
}

// The same bytes as of a row that was multiplied beforehand.
CASE(to_bytes_multiplies_each_element_by_its_factor) {
  Random random(3);
  for (const Table& table : tables())
    for (const long width : kWidths) {
      Exact<float> row(width), factor(width), product(width);
      fill(row.data, width, 1, random);
      for (long i = 0; i < width; i++) {
        factor[i] = 0.01f + 4 * std::fabs(random.uniform());
        product[i] = row[i] * factor[i];
      }
      Exact<int8_t> out(width), wanted(width);
      float scale, wanted_scale;
      int32_t correction, wanted_correction;
      EXPECT(table->to_bytes(row.data, factor.data, width, out.data, &scale, &correction), "%s", table->name);
      table->to_bytes(product.data, nullptr, width, wanted.data, &wanted_scale, &wanted_correction);
      EXPECT(scale == wanted_scale && correction == wanted_correction, "%s: scale %g of %g", table->name, double(scale),
             double(wanted_scale));
      EXPECT(std::equal(out.data, out.data + width, wanted.data), "%s: bytes of width %ld differ", table->name, width);
      factor[width / 2] = NAN;
      EXPECT(!table->to_bytes(row.data, factor.data, width, out.data, &scale, &correction), "%s: a NaN", table->name);
    }
}

// 127 over such a row's largest is beyond a float.
CASE(to_bytes_of_a_vanishing_row_is_harmless) {
  Random random(2);
  for (const Table& table : tables())
    for (const float size : {1e-30f, 1e-37f, 1e-40f, std::numeric_limits<float>::denorm_min()}) {
      Exact<float> row(64);
      for (long i = 0; i < 64; i++) row[i] = i % 3 == 0 ? 0.0f : size * random.uniform();
      row[1] = size;
      Exact<int8_t> out(64);
      float scale;
      int32_t correction, total = 0;
      table->to_bytes(row.data, nullptr, 64, out.data, &scale, &correction);
      for (long i = 0; i < 64; i++) {
        total += out[i];
        EXPECT(std::fabs(out[i] * double(scale) - row[i]) <= 1e-30, "%s: %g became %d", table->name, double(row[i]),
               out[i]);
      }
      EXPECT(correction == 128 * total, "%s: correction %d of %d", table->name, correction, total);
    }
}

const float kNotFinite[] = {NAN, -NAN, std::numeric_limits<float>::signaling_NaN(), INFINITY, -INFINITY};

// One bad number anywhere in a row, which a maximum of floats drops or keeps by the order of its
// operands; and none of what the row had looked like is left.
CASE(a_row_that_is_not_finite_never_becomes_finite) {
  Random random(9);
  for (const Table& table : tables())
    for (const long width : {64L, 128L, 384L}) {
      Exact<float> row(width), gain(width), bias(width), out(width);
      Exact<int8_t> bytes(width);
      for (long i = 0; i < width; i++) gain[i] = 1, bias[i] = 0.5f;
      fill(row.data, width, 0, random);
      float scale;
      int32_t correction;
      EXPECT(table->all_finite(row.data, width), "%s: a finite row", table->name);
      EXPECT(table->to_bytes(row.data, nullptr, width, bytes.data, &scale, &correction), "%s: a finite row", table->name);
      EXPECT(table->norm(row.data, width, gain.data, bias.data, 1e-5f, out.data), "%s: a finite row", table->name);
      for (const float bad : kNotFinite)
        for (long at = 0; at < width; at++) {
          const float good = row[at];
          row[at] = bad;
          EXPECT(!table->all_finite(row.data, width), "%s: %g at %ld of %ld", table->name, double(bad), at, width);
          EXPECT(!table->to_bytes(row.data, nullptr, width, bytes.data, &scale, &correction) && std::isnan(scale),
                 "%s: %g at %ld of %ld has scale %g", table->name, double(bad), at, width, double(scale));
          EXPECT(!table->norm(row.data, width, gain.data, bias.data, 1e-5f, out.data) &&
                     std::all_of(out.data, out.data + width, [](float x) { return std::isnan(x); }),
                 "%s: norm of %g at %ld of %ld", table->name, double(bad), at, width);
          row[at] = good;
        }
    }
}

// Their squares are beyond a float; one over infinity would make every such row the same.
CASE(norm_of_a_row_too_large_for_it_is_not_finite) {
  Random random(10);
  for (const Table& table : tables())
    for (const long width : {32L, 40L, 60L, 768L}) {
      Exact<float> row(width), gain(width), bias(width), out(width);
      for (long i = 0; i < width; i++) row[i] = 1e25f * random.uniform(), gain[i] = 1, bias[i] = 0;
      EXPECT(!table->norm(row.data, width, gain.data, bias.data, 1e-5f, out.data), "%s: width %ld", table->name, width);
      EXPECT(std::isnan(out[0]) && std::isnan(out[width - 1]), "%s: width %ld gives %g", table->name, width,
             double(out[0]));
    }
}

CASE(all_finite_looks_at_rows_of_any_width_and_no_further) {
  for (const Table& table : tables())
    for (long width = 1; width <= 70; width++) {
      Exact<float> row(width + 1);
      for (long i = 0; i < width; i++) row[i] = std::numeric_limits<float>::max();
      row[width] = NAN;
      EXPECT(table->all_finite(row.data, width), "%s: width %ld", table->name, width);
      EXPECT(!table->all_finite(row.data, width + 1), "%s: NaN at the end of %ld", table->name, width + 1);
    }
}

CASE(to_halves_rounds_to_nearest_even) {
  Random random(3);
  for (const Table& table : tables())
    for (const long width : kWidths) {
      Exact<float> row(width);
      Exact<uint16_t> out(width);
      for (long i = 0; i < width; i++) row[i] = std::ldexp(random.uniform(), int(random.between(-60, 60)));
      row[0] = 0, row[1] = 1.00390625f, row[2] = 1.01171875f, row[3] = -1.00390625f;  // ties
      table->to_halves(row.data, width, out.data);
      for (long i = 0; i < width; i++)
        EXPECT(out[i] == to_bf16(row[i]), "%s: %a became %04x", table->name, double(row[i]), out[i]);
    }
}

// Error: 1e-6 of the size of what is added up, so 1e-5 in all with gains up to 4 and 10 deviations.
CASE(norm_agrees_with_double_precision) {
  Random random(4);
  for (const Table& table : tables())
    for (const long width : {8L, 32L, 40L, 48L, 60L, 64L, 100L, 384L, 768L, 1024L})
      for (const float offset : {0.0f, 3.0f}) {
        Exact<float> row(width), gain(width), bias(width), out(width);
        double mean = 0, variance = 0;
        for (long i = 0; i < width; i++) {
          row[i] = offset + random.uniform(), gain[i] = 4 * random.uniform(), bias[i] = random.uniform();
          mean += double(row[i]) / double(width);
        }
        for (long i = 0; i < width; i++) variance += (row[i] - mean) * (row[i] - mean) / double(width);
        table->norm(row.data, width, gain.data, bias.data, 1e-5f, out.data);
        for (long i = 0; i < width; i++) {
          const double expected = (row[i] - mean) / std::sqrt(variance + 1e-5) * gain[i] + bias[i];
          EXPECT(std::fabs(out[i] - expected) <= 2e-5, "%s: width %ld at %ld: %.9g, not %.9g", table->name, width, i,
                 double(out[i]), expected);
        }
        table->norm(row.data, width, gain.data, bias.data, 1e-5f, row.data);
        EXPECT(std::equal(row.data, row.data + width, out.data), "%s: in place differs, width %ld", table->name, width);
      }
}

CASE(embed_scales_and_adds) {
  Random random(5);
  for (const Table& table : tables())
    for (const long width : kWidths) {
      Exact<int8_t> bytes(width);
      Exact<float> position(width), out(width);
      for (long i = 0; i < width; i++) bytes[i] = int8_t(random.between(-127, 127)), position[i] = random.uniform();
      table->embed(bytes.data, 0.0123f, position.data, width, out.data);
      for (long i = 0; i < width; i++)
        EXPECT(std::fabs(out[i] - (double(bytes[i]) * 0.0123f + position[i])) <= 3e-7, "%s at %ld", table->name, i);
    }
}

// ---- the ways out of a product ---------------------------------------------------------------------

constexpr long kDepth = 128, kColumns = 192, kRows = 19;

// One product in one precision: packed by the layout's description, not by the engine's code.
struct Setting {
  Exact<uint32_t> words, panels;
  Exact<float> row_scale{kRows}, scale{kColumns}, bias{kColumns}, residual{kRows * kColumns};
  Exact<int32_t> correction{kRows};
  std::vector<double> values, sizes;  // [rows][columns]: the exact result, the sum of absolute terms
  Matrix matrix;
  Operand in;

  Setting(Precision precision, bool half_products, Random& random)
      : words(kRows * kDepth), panels(kColumns * kDepth), values(size_t(kRows * kColumns)), sizes(values.size()) {
    const long per = precision == Precision::kInt8 ? 4 : precision == Precision::kBf16 ? 2 : 1;
    const bool half_rows = precision == Precision::kBf16 && half_products;
    const long stride = precision == Precision::kInt8 ? kDepth / 4 : half_rows ? kDepth / 2 : kDepth;
    std::vector<double> a(size_t(kRows * kDepth)), w(size_t(kColumns * kDepth));
    for (long r = 0; r < kRows; r++) {
      row_scale[r] = 0.01f + 0.001f * float(r);
      correction[r] = 0;
      for (long k = 0; k < kDepth; k++) {
        double& value = a[size_t(r * kDepth + k)];
        if (precision == Precision::kInt8) {
          const auto byte = int8_t(random.between(-127, 127));
          reinterpret_cast<int8_t*>(words.data + r * stride)[k] = byte;
          correction[r] += 128 * byte;
          value = double(byte) * row_scale[r];
        } else if (half_rows) {
          const uint16_t half = to_bf16(random.uniform());
          reinterpret_cast<uint16_t*>(words.data + r * stride)[k] = half;
          value = from_bf16(half);
        } else {
          const float x = random.uniform();
          reinterpret_cast<float*>(words.data + r * stride)[k] = x;
          value = x;
        }
      }
    }
    for (long c = 0; c < kColumns; c++) {
      scale[c] = 0.001f + 0.0001f * float(c % 7);
      bias[c] = random.uniform();
      for (long k = 0; k < kDepth; k++) {
        double& value = w[size_t(c * kDepth + k)];
        uint32_t* word = panels.data + (c / kPanel * (kDepth / per) + k / per) * kPanel + c % kPanel;
        if (precision == Precision::kInt8) {
          const long byte = random.between(-127, 127);
          reinterpret_cast<uint8_t*>(word)[k % 4] = uint8_t(byte + 128);
          value = double(byte) * scale[c];
        } else if (precision == Precision::kBf16) {
          const uint16_t half = to_bf16(random.uniform());
          reinterpret_cast<uint16_t*>(word)[k % 2] = half;
          value = from_bf16(half);
        } else {
          const float x = random.uniform();
          std::memcpy(word, &x, 4);
          value = x;
        }
      }
    }
    for (long r = 0; r < kRows; r++)
      for (long c = 0; c < kColumns; c++) {
        const size_t at = size_t(r * kColumns + c);
        residual[long(at)] = random.uniform();
        values[at] = bias[c], sizes[at] = std::fabs(bias[c]) + 1;
        for (long k = 0; k < kDepth; k++) {
          const double term = a[size_t(r * kDepth + k)] * w[size_t(c * kDepth + k)];
          values[at] += term, sizes[at] += std::fabs(term);
        }
      }
    matrix = {panels.data, scale.data, bias.data, kColumns, kDepth / per};
    in = {words.data, stride, row_scale.data, correction.data};
  }
};

double gelu(double x) { return x * 0.5 * std::erfc(-x * std::sqrt(0.5)); }

// fp32 sums: 128 roundings of 6e-8 at worst, of what is summed in absolute value; int8 sums are exact.
constexpr double kSumError = 128 * 6e-8;
// The polynomials' own error (gelu.h) and the slope of GELU, at most 1.13, times the sum's.
double gelu_error(double x, double sum_error, bool quick) {
  return 1.13 * sum_error + (quick ? 2e-5 : 6e-7) * std::max(1.0, std::fabs(x));
}

CASE(every_finish_of_every_precision_agrees_with_double_precision) {
  Random random(6);
  for (const Table& table : tables_and_emulated())
    for (const Precision precision : {Precision::kInt8, Precision::kBf16, Precision::kFp32}) {
      const Setting setting(precision, table->half_products, random);
      Exact<float> out(kRows * kColumns);
      Product product{setting.in, &setting.matrix, Finish::kFloat, out.data, kColumns, nullptr, 0};
      const auto compute = [&](Finish finish) {
        product.finish = finish;
        product.residual = finish == Finish::kResidual ? setting.residual.data : nullptr;
        product.residual_stride = kColumns;
        std::fill(out.data, out.data + kRows * kColumns, NAN);
        table->product[int(precision)](product, 0, kRows, 0, kColumns / kPanel);
      };
      for (const Finish finish : {Finish::kFloat, Finish::kGelu, Finish::kResidual, Finish::kHalf}) {
        compute(finish);
        for (long i = 0; i < kRows * kColumns; i++) {
          const double value = setting.values[size_t(i)], error = kSumError * setting.sizes[size_t(i)];
          double got = out[i], expected = value, allowed = error;
          if (finish == Finish::kGelu) {
            expected = gelu(value);
            allowed = gelu_error(value, error, precision != Precision::kFp32);
          } else if (finish == Finish::kResidual) {
            expected = value + setting.residual[i];
          } else if (finish == Finish::kHalf) {
            got = from_bf16(reinterpret_cast<const uint16_t*>(out.data)[i]);
            allowed = error + std::fabs(value) / 256;
          }
          EXPECT(std::fabs(got - expected) <= allowed, "%s precision %d finish %d at %ld: %.9g, not %.9g", table->name,
                 int(precision), int(finish), i, got, expected);
        }
      }
    }
}

// A product of zeros is its bias, so every argument can be given exactly.
CASE(gelu_is_the_exact_one_at_every_size) {
  constexpr long kCount = 64 * 64;
  for (const Table& table : tables())
    for (const Precision precision : {Precision::kInt8, Precision::kBf16, Precision::kFp32}) {
      const bool quick = precision != Precision::kFp32;
      Exact<float> bias(kCount), out(kCount), scale(kCount);
      for (long i = 0; i < kCount; i++) {
        scale[i] = 1;
        bias[i] = i < 3900 ? float(i - 1950) / 150 : std::ldexp(i % 2 != 0 ? 1.0f : -1.0f, int(i - 3900) / 2 - 60);
      }
      Exact<uint32_t> panels(kCount * 64), words(64);
      std::memset(panels.data, precision == Precision::kInt8 ? 128 : 0, kCount * 64 * 4);
      std::memset(words.data, 0, 64 * 4);
      const float row_scale = 1;
      const int32_t correction = 0;
      const long steps = precision == Precision::kInt8 ? 16 : precision == Precision::kBf16 ? 32 : 64;
      const Matrix matrix{panels.data, scale.data, bias.data, kCount, steps};
      const Product product{{words.data, 64, &row_scale, &correction}, &matrix, Finish::kGelu, out.data, kCount,
                            nullptr, 0};
      table->product[int(precision)](product, 0, 1, 0, kCount / kPanel);
      for (long i = 0; i < kCount; i++) {
        const double expected = gelu(bias[i]);
        EXPECT(std::fabs(out[i] - expected) <= gelu_error(bias[i], 0, quick), "%s precision %d: gelu(%g) = %.9g, not %.9g",
               table->name, int(precision), double(bias[i]), double(out[i]), expected);
      }
    }
}

}  // namespace
