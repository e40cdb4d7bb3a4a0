// Integer matrix products: every kernel table against exact sums, hence against each other.
#include <algorithm>
#include <vector>

#include "check.h"
#include "tables.h"

using namespace xlmr;
using namespace xlmr::test;

namespace {

constexpr int kInt8 = int(Precision::kInt8);

// A random packed matrix and random rows, made once and used from the front by every shape. Bytes
// cover their whole range, beyond the -127 to 127 that the engine uses.
struct Numbers {
  Exact<uint8_t> weights{4096L * 1024};
  Exact<int8_t> rows{130L * 4096};
  Numbers() {
    Random random(1);
    for (long i = 0; i < 4096L * 1024; i += 8) store(&weights[i], random.bits());
    for (long i = 0; i < 130L * 4096; i += 8) store(&rows[i], random.bits());
  }
  static void store(void* to, uint64_t bits) { std::memcpy(to, &bits, 8); }
};

const Numbers& numbers() {
  static const Numbers once;
  return once;
}

long weight(long depth, long column, long k) {
  const long at = column / kPanel * kPanel * depth + (k / 4 * kPanel + column % kPanel) * 4 + k % 4;
  return long(numbers().weights[at]) - 128;
}

std::vector<int32_t> corrections(const int8_t* rows, long count, long depth) {
  std::vector<int32_t> result(static_cast<size_t>(count), 0);
  for (long r = 0; r < count; r++)
    for (long k = 0; k < depth; k++) result[size_t(r)] += 128 * rows[r * depth + k];
  return result;
}

constexpr int32_t kUntouched = 0x5a5a5a5a;

// Sums of rows [0, rows) with the first `depth` by `columns` of the numbers; `out` has rows + 1 rows.
void multiply(const Kernels& kernels, long rows, long depth, long columns, const std::vector<int32_t>& correction,
              int32_t* out) {
  const Matrix matrix{reinterpret_cast<const uint32_t*>(numbers().weights.data), nullptr, nullptr, columns, depth / 4};
  const Operand in{reinterpret_cast<const uint32_t*>(numbers().rows.data), depth / 4, nullptr, correction.data()};
  const Product product{in, &matrix, Finish::kSums, out, columns, nullptr, 0};
  std::fill(out, out + (rows + 1) * columns, kUntouched);
  kernels.product[kInt8](product, 0, rows, 0, columns / kPanel);
}

void every_row_count(const Table& table, long depth, long columns) {
  const std::vector<int32_t> correction = corrections(numbers().rows.data, 130, depth);
  std::vector<int32_t> expected(size_t(130 * columns));
  for (long r = 0; r < 130; r++)
    for (long c = 0; c < columns; c++) {
      long sum = 0;
      for (long k = 0; k < depth; k++) sum += numbers().rows[r * depth + k] * weight(depth, c, k);
      expected[size_t(r * columns + c)] = int32_t(sum);
    }
  std::vector<int32_t> out(size_t(131 * columns));
  for (long rows = 1; rows <= 130; rows++) {
    multiply(*table.kernels, rows, depth, columns, correction, out.data());
    EXPECT(std::equal(out.begin(), out.begin() + rows * columns, expected.begin()), "%s: %ld rows x %ld x %ld",
           table->name, rows, depth, columns);
    EXPECT(std::all_of(out.begin() + rows * columns, out.begin() + (rows + 1) * columns,
                       [](int32_t x) { return x == kUntouched; }),
           "%s: wrote behind row %ld", table->name, rows);
  }
}

// Too large to compute naively each time, so both sides are multiplied by one random vector modulo
// 2^64: a single wrong sum goes unseen once in 2^32 or less.
void one_shape(const Table& table, long rows, long depth, long columns, Random& random) {
  const std::vector<int32_t> correction = corrections(numbers().rows.data, rows, depth);
  std::vector<int32_t> out(size_t((rows + 1) * columns));
  multiply(*table.kernels, rows, depth, columns, correction, out.data());
  std::vector<uint64_t> mix(static_cast<size_t>(columns)), mixed(size_t(depth), 0);
  for (uint64_t& x : mix) x = random.bits();
  const uint8_t* packed = numbers().weights.data;
  for (long panel = 0; panel < columns / kPanel; panel++)
    for (long step = 0; step < depth / 4; step++)
      for (long lane = 0; lane < kPanel; lane++)
        for (long i = 0; i < 4; i++)
          mixed[size_t(step * 4 + i)] += uint64_t(long(*packed++) - 128) * mix[size_t(panel * kPanel + lane)];
  for (long r = 0; r < rows; r++) {
    uint64_t left = 0, right = 0;
    for (long c = 0; c < columns; c++) left += uint64_t(int64_t(out[size_t(r * columns + c)])) * mix[size_t(c)];
    for (long k = 0; k < depth; k++) right += uint64_t(int64_t(numbers().rows[r * depth + k])) * mixed[size_t(k)];
    EXPECT(left == right, "%s: row %ld of %ld x %ld x %ld", table->name, r, rows, depth, columns);
  }
}

CASE(every_row_count_from_1_to_130_gives_exact_sums) {
  for (const Table& table : tables_and_emulated())
    if (table.slow) every_row_count(table, 8, 64);
    else every_row_count(table, 384, kQuick ? 64 : 384);
}

CASE(every_shape_of_the_supported_models_gives_exact_sums) {
  // hidden x (queries, keys and values; output; up; down) of the small, base and large encoders,
  // then depths that are no multiple of anything but a panel.
  constexpr long kShapes[][2] = {{384, 1152},  {384, 384},   {384, 1536},  {1536, 384},  {768, 2304}, {768, 768},
                                 {768, 3072},  {3072, 768},  {1024, 3072}, {1024, 1024}, {1024, 4096}, {4096, 1024},
                                 {1152, 2304}, {2304, 1152}, {64, 64},     {192, 320}};
  Random random(2);
  for (const Table& table : tables())
    for (const auto& [depth, columns] : kShapes)
      one_shape(table, random.between(1, table.slow ? 2 : kQuick ? 40 : 130), depth, columns, random);
  for (const Table& table : tables_and_emulated())
    if (table.slow) one_shape(table, 7, 384, 64, random);
}

CASE(parts_of_rows_and_columns_touch_nothing_else) {
  constexpr long kDepth = 64, kColumns = 320, kRows = 37;
  const std::vector<int32_t> correction = corrections(numbers().rows.data, kRows, kDepth);
  std::vector<int32_t> whole(size_t((kRows + 1) * kColumns)), part(size_t(kRows * kColumns));
  Random random(3);
  for (const Table& table : tables_and_emulated()) {
    multiply(*table.kernels, kRows, kDepth, kColumns, correction, whole.data());
    for (int round = 0; round < (table.slow ? 3 : 60); round++) {
      const long row = random.between(0, kRows), row_end = random.between(row, kRows);
      const long panel = random.between(0, 5), panel_end = random.between(panel, 5);
      std::fill(part.begin(), part.end(), kUntouched);
      const Matrix matrix{reinterpret_cast<const uint32_t*>(numbers().weights.data), nullptr, nullptr, kColumns,
                          kDepth / 4};
      const Operand in{reinterpret_cast<const uint32_t*>(numbers().rows.data), kDepth / 4, nullptr, correction.data()};
      table->product[kInt8]({in, &matrix, Finish::kSums, part.data(), kColumns, nullptr, 0}, row, row_end, panel,
                            panel_end);
      for (long i = 0; i < kRows * kColumns; i++) {
        const long r = i / kColumns, p = i % kColumns / kPanel;
        const bool inside = r >= row && r < row_end && p >= panel && p < panel_end;
        EXPECT(part[size_t(i)] == (inside ? whole[size_t(i)] : kUntouched), "%s: rows %ld-%ld panels %ld-%ld at %ld",
               table->name, row, row_end, panel, panel_end, i);
      }
    }
  }
}

CASE(extreme_bytes_do_not_saturate) {
  constexpr long kDepth = 4096;
  for (const Table& table : tables())
    for (const int a : {-128, -127, 127})
      for (const int w : {-128, 127}) {
        Exact<uint8_t> packed(kPanel * kDepth);
        Exact<int8_t> rows(7 * kDepth);
        std::memset(packed.data, w + 128, size_t(kPanel * kDepth));
        std::memset(rows.data, a, size_t(7 * kDepth));
        const std::vector<int32_t> correction = corrections(rows.data, 7, kDepth);
        const Matrix matrix{reinterpret_cast<const uint32_t*>(packed.data), nullptr, nullptr, kPanel, kDepth / 4};
        const Operand in{reinterpret_cast<const uint32_t*>(rows.data), kDepth / 4, nullptr, correction.data()};
        int32_t out[7 * kPanel];
        table->product[kInt8]({in, &matrix, Finish::kSums, out, kPanel, nullptr, 0}, 0, 7, 0, 1);
        EXPECT(std::all_of(out, out + 7 * kPanel, [&](int32_t x) { return x == a * w * int32_t(kDepth); }),
               "%s: %d x %d", table->name, a, w);
      }
}

}  // namespace
