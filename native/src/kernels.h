// What the engine needs from an instruction set: one table of functions, picked once at run time.
#pragma once
#include <cstdint>

namespace xlmr {

enum class Precision : uint32_t { kInt8 = 0, kBf16 = 1, kFp32 = 2 };

// Columns of a weight matrix come in panels of 64, so one row of a panel is four cache lines.
constexpr long kPanel = 64;
constexpr long round_up(long n, long to) { return (n + to - 1) / to * to; }

// A weight matrix [columns, depth], packed: panel by panel, step by step, 64 words a step. A word
// holds what one column needs of one step: four int8 (stored as w + 128), two bf16, or one float.
struct Matrix {
  const uint32_t* panels = nullptr;
  const float* scale = nullptr;  // int8 only: one per column
  const float* bias = nullptr;   // one per column
  long columns = 0;              // a multiple of 64
  long steps = 0;                // words of one row of activations
  // int8 only, may be null: what each element of a row of activations is to be multiplied by first
  const float* smoothing = nullptr;
};

// Rows of activations in the format the matrix product reads.
struct Operand {
  const uint32_t* words = nullptr;
  long stride = 0;                      // words from row to row
  const float* scale = nullptr;         // int8 only: one per row
  const int32_t* correction = nullptr;  // int8 only: 128 times the sum of the row
};

enum class Finish {
  kFloat,     // out = value
  kHalf,      // out = bf16(value)
  kGelu,      // out = gelu(value)
  kResidual,  // out = value + residual
  kSums,      // out = the integer sums themselves (tests)
};

struct Product {
  Operand in;
  const Matrix* matrix = nullptr;
  Finish finish = Finish::kFloat;
  void* out = nullptr;
  long out_stride = 0;  // elements of the output type
  const float* residual = nullptr;
  long residual_stride = 0;
};

// Attention of one head over one text, for queries [query_begin, query_end) of `length` keys.
// `query`, `key`, `value` point at the head's columns of row 0 of the text; elements are bf16 where
// Kernels::half_attention, else float. Queries are already scaled by 1/sqrt(width).
struct Attention {
  const void* query = nullptr;
  const void* key = nullptr;
  const void* value = nullptr;
  long stride = 0;  // elements from token to token
  long length = 0;
  long width = 0;  // a multiple of 8
  long query_begin = 0, query_end = 0;
  float* out = nullptr;  // row of query_begin
  long out_stride = 0;
};

struct Kernels {
  const char* name;
  bool half_products;   // bf16 operands are bf16 words (else the activations stay float)
  bool half_attention;  // queries, keys and values are kept as bf16 (int8 and bf16 precision)
  // Rows [row_begin, row_end) of the operand times panels [panel_begin, panel_end) of the matrix.
  void (*product[3])(const Product&, long row_begin, long row_end, long panel_begin, long panel_end);
  // A row with a NaN or an infinity never becomes a finite one: to_bytes gives it the scale NaN and
  // norm makes all of it NaN (so both do with an overflow of their own), and both return false;
  // attend gives NaN where a score is one. Products carry it on, to every column of the row.
  //
  // One row to signed bytes: scale = largest / 127. `width` is a multiple of 64. Where `factor` is not
  // null, each element is multiplied by its own first.
  bool (*to_bytes)(const float* row, const float* factor, long width, int8_t* out, float* scale,
                   int32_t* correction);
  void (*to_halves)(const float* row, long width, uint16_t* out);
  // Layer norm over the first `width` of a row; in and out may be the same.
  bool (*norm)(const float* in, long width, const float* gain, const float* bias, float epsilon, float* out);
  // out = scale * bytes + position: the embedding of one token, before its layer norm.
  void (*embed)(const int8_t* bytes, float scale, const float* position, long width, float* out);
  // Whether a row has neither NaN nor infinity.
  bool (*all_finite)(const float* row, long width);
  // `half`: elements are bf16. Needs attention_scratch(width) bytes.
  void (*attend)(const Attention&, bool half, char* scratch);
};

// Queries that share one packing of a block of keys; pieces of attention are best this long.
constexpr long kQueryChunk = 256;

// Bytes of scratch that `attend` may use; the same for every table.
long attention_scratch(long width);

extern const Kernels portable_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels, avx2vnni_kernels, avx512vnni_kernels, avx512bf16_kernels;
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
#endif

// The named table, or the best one this processor runs for "auto". Null if the processor lacks it;
// throws std::invalid_argument for a name that does not exist.
const Kernels* find_kernels(const char* name);

}  // namespace xlmr
