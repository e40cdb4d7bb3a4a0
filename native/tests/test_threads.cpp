// The pool: every piece exactly once, whoever is asleep, awake, late or gone.
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "check.h"
#include "threads.h"

using namespace xlmr;
using namespace xlmr::test;

namespace {

// Plain counters on purpose: what a piece writes must be seen by the caller after run(), and a thread
// sanitizer must have nothing to say about it.
void round_of(Threads& threads, long pieces, std::vector<int>& done, std::vector<int>& by_thread) {
  done.assign(size_t(pieces), 0);
  by_thread.assign(size_t(threads.count()), 0);
  threads.run(pieces, [&](long piece, int thread) {
    done[size_t(piece)]++;
    by_thread.at(size_t(thread))++;
  });
  long total = 0;
  for (const int n : by_thread) total += n;
  EXPECT(total == pieces, "%ld of %ld pieces done", total, pieces);
  for (long i = 0; i < pieces; i++)
    EXPECT(done[size_t(i)] == 1, "piece %ld of %ld done %d times", i, pieces, done[size_t(i)]);
}

CASE(every_piece_exactly_once_in_thousands_of_rounds) {
  Random random(1);
  std::vector<int> done, by_thread;
  for (const int count : {1, 2, 3, 8}) {  // 8 threads on few processors: most are late most of the time
    Threads threads(count);
    EXPECT(threads.count() == count, "%d threads", threads.count());
    for (int i = 0; i < (kQuick ? 2000 : 8000); i++) round_of(threads, random.between(0, 50), done, by_thread);
  }
}

CASE(rounds_with_pauses_find_the_sleepers) {
  Random random(2);
  std::vector<int> done, by_thread;
  for (const int count : {2, 8}) {
    Threads threads(count);
    for (int i = 0; i < 200; i++) {
      std::this_thread::sleep_for(std::chrono::microseconds(random.between(0, 1500)));
      round_of(threads, random.between(1, 50), done, by_thread);
    }
  }
}

CASE(pieces_of_very_different_length) {
  Random random(3);
  std::vector<long> cost(50);
  Threads threads(4);
  for (int i = 0; i < 200; i++) {
    for (long& c : cost) c = random.between(0, 9) == 0 ? 20000 : 10;
    std::atomic<long> sum{0};
    threads.run(50, [&](long piece, int) {
      Random work(uint64_t(piece) + 1);
      uint64_t all = 0;
      for (long n = 0; n < cost[size_t(piece)]; n++) all ^= work.bits();
      sum += long(all != 0);
    });
    EXPECT(sum == 50, "%ld of 50", sum.load());
  }
}

CASE(many_pieces) {
  std::vector<int> done, by_thread;
  Threads threads(3);
  round_of(threads, 100000, done, by_thread);
}

CASE(ends_whether_idle_asleep_or_never_used) {
  std::vector<int> done, by_thread;
  for (int i = 0; i < 150; i++) {
    auto threads = std::make_unique<Threads>(1 + i % 8);
    if (i % 3 > 0) round_of(*threads, 20, done, by_thread);
    if (i % 5 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));  // longer than they spin
    threads.reset();
  }
}

// A thread that loses its core to somebody else holds one piece and no more: here one stays away until
// all the others are done.
CASE(a_thread_that_is_away_leaves_its_work_to_the_others) {
  using Clock = std::chrono::steady_clock;
  const auto wait_for = [](const auto& condition) {
    for (const auto end = Clock::now() + std::chrono::seconds(20); !condition();) {
      if (Clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  };
  for (const int count : {2, 3, 8}) {
    Threads threads(count);
    for (const long pieces : {2L, 6L, 100L}) {
      std::atomic<long> done{0};
      std::atomic<bool> away{false}, waited{false}, all{true};
      threads.run(pieces, [&](long, int thread) {
        if (thread == 0) {
          if (!wait_for([&] { return away.load(); })) all = false;
        } else if (!away.exchange(true)) {
          if (!wait_for([&] { return done == pieces - 1; })) all = false;
          waited = true;
        }
        done++;
      });
      EXPECT(all && waited, "%d threads: %ld pieces waited for one that was away", count, pieces);
    }
  }
}

CASE(threads_that_cannot_be_had_are_a_fault_and_none_is_left_behind) {
  for (const int had : {0, 1, 5}) {
    int begun = 0;
    std::atomic<int> alive{0};
    std::string fault;
    try {
      Threads threads(8, [&](std::function<void()> work) {
        if (begun == had) throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
        begun++;
        return std::thread([&alive, work = std::move(work)] {
          alive++;
          work();
          alive--;
        });
      });
    } catch (const ThreadsFault& refused) {
      fault = refused.what();
    }
    const std::string expected = std::to_string(had + 1) + " of 8 threads";
    EXPECT(fault.find(expected) != std::string::npos, "not '%s': %s", expected.c_str(), fault.c_str());
    EXPECT(alive == 0, "%d of %d threads still run", alive.load(), had);
  }
}

CASE(several_pools_at_once) {
  std::vector<std::thread> callers;
  std::atomic<long> sum{0};
  for (int caller = 0; caller < 4; caller++)
    callers.emplace_back([&] {
      Threads threads(3);
      for (int i = 0; i < 300; i++) threads.run(10, [&](long, int) { sum++; });
    });
  for (auto& caller : callers) caller.join();
  EXPECT(sum == 4 * 300 * 10, "%ld pieces", sum.load());
}

}  // namespace
