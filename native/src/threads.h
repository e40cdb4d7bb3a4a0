// The engine's own threads. Work is dealt in pieces that each thread takes as it comes free, so a
// thread that loses its core to another process delays nobody by more than one piece.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace xlmr {

// The system gives no more threads.
struct ThreadsFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Threads {
 public:
  // How a thread is begun; anything but std::thread's own way is for tests.
  using Starter = std::function<std::thread(std::function<void()>)>;

  // All of the threads or none: throws ThreadsFault.
  explicit Threads(int count) : Threads(count, [](std::function<void()> work) { return std::thread(std::move(work)); }) {}
  Threads(int count, const Starter& starter);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int count() const { return int(workers_.size()) + 1; }

  // Calls work(piece, thread) once for every piece in [0, pieces), on all threads; returns when all
  // are done. `thread` lies in [0, count()). One caller at a time. `work` must not throw.
  template <class Work>
  void run(long pieces, const Work& work) {
    if (pieces <= 0) return;
    if (workers_.empty() || pieces == 1) {
      for (long i = 0; i < pieces; i++) work(i, 0);
      return;
    }
    start(pieces, &work, [](const void* context, long piece, int thread) {
      (*static_cast<const Work*>(context))(piece, thread);
    });
  }

 private:
  using Call = void (*)(const void*, long, int);

  void start(long pieces, const void* context, Call call);
  void stop();
  void loop(int thread);
  void take(uint32_t round, int thread);

  std::vector<std::thread> workers_;
  // The round in the high half, the next piece in the low half: a thread that wakes late can never
  // take a piece of a round it did not see begin.
  alignas(64) std::atomic<uint64_t> next_{0};
  alignas(64) std::atomic<long> left_{0};
  alignas(64) std::atomic<uint32_t> round_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<int> sleeping_{0};
  std::atomic<long> pieces_{0};
  const void* context_ = nullptr;
  Call call_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace xlmr
