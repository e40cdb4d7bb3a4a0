// The forward pass over a flat row of tokens: no padding, no allocation that grows with anything but
// the token budget.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#include "threads.h"
#include "weights.h"

namespace xlmr {

struct Cancelled : std::runtime_error {
  Cancelled() : std::runtime_error("cancelled between two layers") {}
};

// The activations hold a NaN or an infinity: the weights are broken, or too large for this arithmetic.
struct NotFinite : std::runtime_error {
  explicit NotFinite(const std::string& where)
      : std::runtime_error("the activations are not finite numbers, noticed in " + where) {}
};

class Engine {
 public:
  Engine(std::unique_ptr<Weights> weights, const Kernels* kernels, int threads);
  ~Engine();

  const Shape& shape() const { return weights_->shape; }
  const Kernels& kernels() const { return *kernels_; }
  int threads() const { return threads_.count(); }

  // Computes texts [0, texts): text b is ids[starts[b]] to ids[starts[b + 1]], each with 1 to
  // max_tokens() ids inside the vocabulary (the caller has checked). Writes [tokens, hidden], or
  // [texts, hidden] when only first rows are wanted. Several callers take turns. Throws Cancelled,
  // NotFinite (what `out` holds is then of no use) and WeightsFault (the mapped file was written to).
  // Whoever waits for it may set `given_up`, from any thread: the run ends before its next layer.
  void run(const int32_t* ids, const int32_t* starts, long texts, bool first_rows, float* out,
           const uint8_t* given_up = nullptr);

  // Ends every run that has been called by now before its next layer: the one in progress, and those
  // that wait for their turn. Later runs are not touched.
  void cancel() { cancels_++; }

 private:
  struct Workspace;
  struct Chunk;

  void run_chunk(const Chunk& chunk, bool first_rows, float* out);
  void embed(const Chunk& chunk);
  void attend(const Chunk& chunk, bool first_rows);
  void check(bool finite, long layer) {
    if (!finite) note_not_finite(layer);
  }
  void note_not_finite(long layer);
  void finish_layer(long layer, long rows);
  bool cancelled() const {
    return cancels_ != cancels_before_ || (given_up_ != nullptr && __atomic_load_n(given_up_, __ATOMIC_RELAXED) != 0);
  }
  long row_blocks(long rows) const;
  template <class Rows, class Multiply>
  void dense(long layer, long first, long rows, long slice, const Rows& each_row, const Multiply& multiply);

  std::unique_ptr<Weights> weights_;
  const Kernels* kernels_;
  Threads threads_;
  std::unique_ptr<Workspace> space_;
  std::mutex turn_;
  std::atomic<long> not_finite_;  // first layer of the run in progress where that was noticed
  std::atomic<uint64_t> cancels_{0};
  uint64_t cancels_before_ = 0;  // when the run in progress was called
  const uint8_t* given_up_ = nullptr;  // whether nobody waits for it any more
};

}  // namespace xlmr
