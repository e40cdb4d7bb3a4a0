#include "threads.h"

#include <algorithm>
#include <exception>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace xlmr {
namespace {

// Between two phases of a forward pass there are microseconds, between two batches milliseconds:
// spin over the first, sleep over the second.
constexpr int kSpins = 4000;
constexpr uint64_t kClosed = 0xffffffffu;  // a piece number no round reaches

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Threads::Threads(int count, const Starter& starter) {
  workers_.reserve(size_t(std::max(0, count - 1)));
  try {
    for (int i = 1; i < count; i++) workers_.push_back(starter([this, i] { loop(i); }));
  } catch (const std::exception& fault) {
    const int begun = this->count();
    stop();
    throw ThreadsFault("the system gave " + std::to_string(begun) + " of " + std::to_string(count) + " threads (" +
                       fault.what() + ")");
  }
}

Threads::~Threads() { stop(); }

void Threads::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void Threads::take(uint32_t round, int thread) {
  uint64_t seen = next_.load(std::memory_order_acquire);
  for (;;) {
    const long piece = long(seen & 0xffffffffu);
    if (uint32_t(seen >> 32) != round) return;
    // `pieces_` may already be the next round's; then the exchange below fails. Only a thread whose
    // exchange succeeds reads the rest of the round's description.
    if (piece >= pieces_.load(std::memory_order_relaxed)) return;
    if (!next_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) continue;
    call_(context_, piece, thread);
    left_.fetch_sub(1, std::memory_order_release);
    seen = next_.load(std::memory_order_acquire);
  }
}

void Threads::start(long pieces, const void* context, Call call) {
  const uint32_t round = round_.load(std::memory_order_relaxed) + 1;
  next_.store(uint64_t(round) << 32 | kClosed, std::memory_order_seq_cst);
  pieces_.store(pieces, std::memory_order_seq_cst);
  context_ = context;
  call_ = call;
  left_.store(pieces, std::memory_order_relaxed);
  next_.store(uint64_t(round) << 32, std::memory_order_release);
  round_.store(round, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  take(round, 0);
  for (int spins = 0; left_.load(std::memory_order_acquire) > 0; spins++) {
    if (spins < kSpins) pause();
    else std::this_thread::yield();
  }
}

void Threads::loop(int thread) {
  uint32_t seen = 0;
  for (;;) {
    uint32_t round = round_.load(std::memory_order_acquire);
    for (int spins = 0; round == seen && spins < kSpins; spins++) {
      pause();
      round = round_.load(std::memory_order_acquire);
    }
    if (round == seen) {
      std::unique_lock lock(mutex_);
      sleeping_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] { return stopping_ || round_.load(std::memory_order_seq_cst) != seen; });
      sleeping_.fetch_sub(1, std::memory_order_seq_cst);
      if (stopping_) return;
      round = round_.load(std::memory_order_acquire);
    }
    seen = round;
    take(round, thread);
  }
}

}  // namespace xlmr
