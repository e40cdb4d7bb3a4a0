// The story of a batch: it is cut into chunks of whole texts that stay in the cache; a chunk is
// embedded, then each layer is attention over every text followed by everything that is row by row.
//
// Rows are shared out in one of two ways. With many rows, each thread takes blocks of rows through
// the whole row-by-row part without meeting another. With few, the threads split the columns of each
// matrix instead, so that every weight is read once. Either way each number is computed by the same
// operations in the same order.
#include "engine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

namespace xlmr {
namespace {

constexpr long kChunkTokens = 1024;  // tokens of one chunk, unless one text is longer
constexpr long kBlockRows = 48;      // rows one thread takes through the row-by-row part at once
constexpr long kFewRows = 24;        // fewer rows a thread than this: split columns instead
constexpr long kSlack = 64;          // elements a vector load may read behind a buffer's end
constexpr long kEmbeddings = -1;     // as a layer
constexpr long kNone = std::numeric_limits<long>::max();  // likewise

// Memory that grows and is never given back until the engine is.
template <class T>
class Buffer {
 public:
  ~Buffer() { std::free(data_); }
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const { return data_; }
  void reserve(long count) {
    if (count <= count_) return;
    std::free(data_);
    count_ = 0;
    const size_t bytes = (size_t(count + kSlack) * sizeof(T) + 63) / 64 * 64;
    data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(static_cast<void*>(data_), 0, bytes);
    count_ = count;
  }

 private:
  T* data_ = nullptr;
  long count_ = 0;
};

// Rows of activations in the format the next product reads.
struct Operands {
  Buffer<uint32_t> words;
  Buffer<float> scale;
  Buffer<int32_t> correction;
  long stride = 0;  // words

  void reserve(long rows, long stride_words) {
    stride = stride_words;
    words.reserve(rows * stride);
    scale.reserve(rows);
    correction.reserve(rows);
  }
  Operand at(long row) const {
    return {words.get() + row * stride, stride, scale.get() + row, correction.get() + row};
  }
};

}  // namespace

struct Engine::Workspace {
  Buffer<float> state;    // [rows][width]: the residual stream
  Buffer<char> qkv;       // [rows][3 * width]: bf16 or float
  Buffer<float> mixed;    // [rows][width]: what attention gives
  Operands state_words;   // [slices]: a row of the stream as an operand
  Buffer<float> sums;     // [slices][width]: before a layer norm
  Buffer<float> inner;    // [slices][wide]: after GELU
  Operands inner_words;   // [slices]
  Buffer<char> scratch;   // [threads]: attention's
  long scratch_bytes = 0;
};

struct Engine::Chunk {
  const int32_t* ids;     // of the chunk's first text
  const int32_t* starts;  // texts + 1 of them, absolute
  long texts;
  long rows() const { return starts[texts] - starts[0]; }
  long begin(long text) const { return starts[text] - starts[0]; }
  long length(long text) const { return starts[text + 1] - starts[text]; }
};

Engine::Engine(std::unique_ptr<Weights> weights, const Kernels* kernels, int threads)
    : weights_(std::move(weights)), kernels_(kernels), threads_(std::max(1, threads)), space_(new Workspace), not_finite_(kNone) {}

Engine::~Engine() = default;

void Engine::run(const int32_t* ids, const int32_t* starts, long texts, bool first_rows, float* out,
                 const uint8_t* given_up) {
  const uint64_t cancels_before = cancels_;
  std::lock_guard turn(turn_);
  cancels_before_ = cancels_before;
  given_up_ = given_up;
  not_finite_ = kNone;
  weights_->check_unchanged();
  for (long text = 0; text < texts;) {
    Chunk chunk{ids + starts[text], starts + text, 1};
    while (text + chunk.texts < texts && starts[text + chunk.texts + 1] - starts[text] <= kChunkTokens) chunk.texts++;
    run_chunk(chunk, first_rows, out);
    out += (first_rows ? chunk.texts : chunk.rows()) * shape().hidden;
    text += chunk.texts;
  }
}

void Engine::note_not_finite(long layer) {
  long first = not_finite_;
  while (layer < first && !not_finite_.compare_exchange_weak(first, layer)) {
  }
}

void Engine::run_chunk(const Chunk& chunk, bool first_rows, float* out) {
  const Shape& s = shape();
  const long rows = chunk.rows(), width = s.width(), wide = s.wide();
  const long slices = threads_.count() * kBlockRows;
  const bool int8 = weights_->precision == Precision::kInt8;
  const bool half = weights_->precision == Precision::kBf16 && kernels_->half_products;
  const long per_word = int8 ? 4 : half ? 2 : 1;
  // Room for a whole chunk from the first batch on: memory does not creep up with the largest so far.
  const long room = round_up(rows, kChunkTokens);
  space_->state.reserve(room * width);
  space_->qkv.reserve(room * 3 * width * (kernels_->half_attention && weights_->precision != Precision::kFp32 ? 2 : 4));
  space_->mixed.reserve(room * width);
  space_->state_words.reserve(slices, width / per_word);
  space_->sums.reserve(slices * width);
  space_->inner.reserve(slices * wide);
  space_->inner_words.reserve(slices, wide / per_word);
  space_->scratch_bytes = round_up(attention_scratch(s.head_width()), 4096);
  space_->scratch.reserve(space_->scratch_bytes * threads_.count());

  // A row that is not finite stays so to the next place that looks: to_bytes, a norm, or the output.
  const auto check_run = [&] {
    const long layer = not_finite_;
    if (layer != kNone) throw NotFinite(layer == kEmbeddings ? "the embeddings" : "layer " + std::to_string(layer));
  };
  embed(chunk);
  finish_layer(kEmbeddings, rows);
  check_run();
  long live = rows;
  for (long layer = 0; layer < s.layers; layer++) {
    if (cancelled()) throw Cancelled();
    const bool shorten = first_rows && layer + 1 == s.layers;
    attend(chunk, shorten);
    if (shorten) {
      float* state = space_->state.get();
      for (long text = 0; text < chunk.texts; text++)
        std::memmove(state + text * width, state + chunk.begin(text) * width, size_t(width) * sizeof(float));
      live = chunk.texts;
    }
    finish_layer(layer, live);
    check_run();
  }
  for (long row = 0; row < live; row++) {
    const float* state = space_->state.get() + row * width;
    check(kernels_->all_finite(state, s.hidden), s.layers - 1);
    std::memcpy(out + row * s.hidden, state, size_t(s.hidden) * sizeof(float));
  }
  check_run();
}

void Engine::embed(const Chunk& chunk) {
  const Shape& s = shape();
  const Weights& w = *weights_;
  const long width = s.width();
  threads_.run(chunk.texts, [&](long text, int) {
    for (long i = 0; i < chunk.length(text); i++) {
      const long row = chunk.begin(text) + i, id = chunk.ids[row];
      const float* position = w.positions + (s.pad_id + 1 + i) * width;
      float* out = space_->state.get() + row * width;
      if (w.precision == Precision::kInt8) {
        kernels_->embed(static_cast<const int8_t*>(w.words) + id * width, w.word_scale[id], position, width, out);
      } else if (w.precision == Precision::kBf16) {
        const uint16_t* word = static_cast<const uint16_t*>(w.words) + id * width;
        for (long c = 0; c < width; c++) {
          const uint32_t bits = uint32_t(word[c]) << 16;
          float value;
          std::memcpy(&value, &bits, sizeof value);
          out[c] = value + position[c];
        }
      } else {
        const float* word = static_cast<const float*>(w.words) + id * width;
        for (long c = 0; c < width; c++) out[c] = word[c] + position[c];
      }
      if (!s.pre_norm)
        check(kernels_->norm(out, s.hidden, w.embedding_norm.gain, w.embedding_norm.bias, float(s.norm_epsilon), out),
              kEmbeddings);
    }
  });
}

void Engine::attend(const Chunk& chunk, bool first_rows) {
  const Shape& s = shape();
  const long width = s.width(), head_width = s.head_width();
  const bool half = kernels_->half_attention && weights_->precision != Precision::kFp32;
  const long element = half ? 2 : 4;
  // One piece is up to kQueryChunk queries of one head of one text.
  long pieces = 0;
  std::vector<long> first_piece(size_t(chunk.texts) + 1);
  for (long text = 0; text < chunk.texts; text++) {
    first_piece[size_t(text)] = pieces;
    const long queries = first_rows ? 1 : chunk.length(text);
    pieces += s.heads * ((queries + kQueryChunk - 1) / kQueryChunk);
  }
  first_piece.back() = pieces;
  threads_.run(pieces, [&](long piece, int thread) {
    const long text = std::upper_bound(first_piece.begin(), first_piece.end(), piece) - first_piece.begin() - 1;
    const long of_text = piece - first_piece[size_t(text)];
    const long head = of_text % s.heads, part = of_text / s.heads;
    const long begin = chunk.begin(text), length = chunk.length(text);
    const char* row = space_->qkv.get() + (begin * 3 * width + head * head_width) * element;
    Attention job;
    job.query = row;
    job.key = row + width * element;
    job.value = row + 2 * width * element;
    job.stride = 3 * width;
    job.length = length;
    job.width = head_width;
    job.query_begin = part * kQueryChunk;
    job.query_end = first_rows ? 1 : std::min(length, (part + 1) * kQueryChunk);
    job.out = space_->mixed.get() + (first_rows ? text : begin + job.query_begin) * width + head * head_width;
    job.out_stride = width;
    kernels_->attend(job, half, space_->scratch.get() + thread * space_->scratch_bytes);
  });
}

// Rows [first, first + rows) through everything of `layer` that is row by row, then through the next
// layer's queries, keys and values; kEmbeddings is only the latter. Scratch rows begin at `slice`.
// each_row(count, f) calls f(i) for i in [0, count); multiply(product, rows) computes a product.
template <class Rows, class Multiply>
void Engine::dense(long layer, long first, long rows, long slice, const Rows& each_row, const Multiply& multiply) {
  const Shape& s = shape();
  const Weights& w = *weights_;
  const long width = s.width(), wide = s.wide();
  const bool int8 = w.precision == Precision::kInt8;
  const bool half = w.precision == Precision::kBf16 && kernels_->half_products;
  const float epsilon = float(s.norm_epsilon);
  float* state = space_->state.get() + first * width;
  float* sums = space_->sums.get() + slice * width;
  float* inner = space_->inner.get() + slice * wide;
  const Operand state_words = space_->state_words.at(slice), inner_words = space_->inner_words.at(slice);

  const auto convert = [&](const float* row, const float* smoothing, long columns, const Operand& to, long i, long of) {
    uint32_t* out = const_cast<uint32_t*>(to.words) + i * to.stride;
    if (int8)
      check(kernels_->to_bytes(row, smoothing, columns, reinterpret_cast<int8_t*>(out), const_cast<float*>(to.scale) + i,
                               const_cast<int32_t*>(to.correction) + i),
            of);
    else if (half)
      kernels_->to_halves(row, columns, reinterpret_cast<uint16_t*>(out));
    else
      std::memcpy(out, row, size_t(columns) * sizeof(float));
  };
  const auto normed = [&](const float* row, const Norm& norm, float* out) {
    check(kernels_->norm(row, s.hidden, norm.gain, norm.bias, epsilon, out), layer);
    std::fill(out + s.hidden, out + width, 0.0f);  // what a row that was not finite may have left there
  };

  if (layer >= 0) {
    const Layer& l = w.layers[size_t(layer)];
    const float* mixed = space_->mixed.get() + first * width;
    each_row(rows, [&](long i) { convert(mixed + i * width, l.output.smoothing, width, state_words, i, layer); });
    multiply({state_words, &l.output, Finish::kResidual, sums, width, state, width}, rows);
    each_row(rows, [&](long i) {
      float* sum = sums + i * width;
      if (s.pre_norm) {
        std::memcpy(state + i * width, sum, size_t(width) * sizeof(float));
        normed(sum, l.output_norm, sum);
        convert(sum, l.up.smoothing, width, state_words, i, layer);
      } else {
        normed(sum, l.attention_norm, state + i * width);
        convert(state + i * width, l.up.smoothing, width, state_words, i, layer);
      }
    });
    multiply({state_words, &l.up, Finish::kGelu, inner, wide, nullptr, 0}, rows);
    each_row(rows, [&](long i) { convert(inner + i * wide, l.down.smoothing, wide, inner_words, i, layer); });
    multiply({inner_words, &l.down, Finish::kResidual, sums, width, state, width}, rows);
    each_row(rows, [&](long i) {
      float* sum = sums + i * width;
      if (s.pre_norm) std::memcpy(state + i * width, sum, size_t(width) * sizeof(float));
      else normed(sum, l.output_norm, state + i * width);
    });
  }
  if (layer + 1 < s.layers) {
    const Layer& next = w.layers[size_t(layer + 1)];
    each_row(rows, [&](long i) {
      const float* row = state + i * width;
      if (s.pre_norm) {
        normed(row, next.attention_norm, sums + i * width);
        row = sums + i * width;
      }
      convert(row, next.qkv.smoothing, width, state_words, i, s.pre_norm ? layer + 1 : layer);
    });
    const bool halves = kernels_->half_attention && w.precision != Precision::kFp32;
    char* qkv = space_->qkv.get() + first * 3 * width * (halves ? 2 : 4);
    multiply({state_words, &next.qkv, halves ? Finish::kHalf : Finish::kFloat, qkv, 3 * width, nullptr, 0}, rows);
  } else if (s.pre_norm) {
    each_row(rows, [&](long i) { normed(state + i * width, w.final_norm, state + i * width); });
  }
}

long Engine::row_blocks(long rows) const {
  const long threads = threads_.count();
  if (threads > 1 && rows < threads * kFewRows) return 0;
  // Whole rounds of equal blocks, so that the threads end together.
  const long rounds = (rows + threads * kBlockRows - 1) / (threads * kBlockRows);
  return rounds * threads;
}

void Engine::finish_layer(long layer, long rows) {
  const long blocks = row_blocks(rows);
  if (blocks == 0) {  // split the columns
    dense(
        layer, 0, rows, 0, [&](long count, const auto& f) { threads_.run(count, [&](long i, int) { f(i); }); },
        [&](const Product& product, long count) {
          const auto multiply = kernels_->product[int(weights_->precision)];
          threads_.run(product.matrix->columns / kPanel,
                       [&](long panel, int) { multiply(product, 0, count, panel, panel + 1); });
        });
    return;
  }
  threads_.run(blocks, [&](long block, int thread) {
    const long first = rows * block / blocks, end = rows * (block + 1) / blocks;
    dense(
        layer, first, end - first, thread * kBlockRows,
        [](long count, const auto& f) {
          for (long i = 0; i < count; i++) f(i);
        },
        [&](const Product& product, long count) {
          kernels_->product[int(weights_->precision)](product, 0, count, 0, product.matrix->columns / kPanel);
        });
  });
}

}  // namespace xlmr
