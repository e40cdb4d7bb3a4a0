// Threads for one piece of work: reading or writing the prepared file. Computing has its own pool.
#pragma once
#include <exception>
#include <functional>
#include <thread>
#include <vector>

namespace xlmr {

// Calls work(i) for i in [0, count) at the same time, or for the first few of them where the system
// gives fewer threads: `work` must take what there is to do from a shared counter. It must not throw.
template <class Work>
void on_threads(unsigned count, const Work& work) {
  std::vector<std::thread> others;
  try {
    others.reserve(count);
    for (unsigned i = 1; i < count; i++) others.emplace_back(std::cref(work), i);
  } catch (const std::exception&) {
    // Fewer are slower, not wrong.
  }
  work(0u);
  for (std::thread& other : others) other.join();
}

}  // namespace xlmr
