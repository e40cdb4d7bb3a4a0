#include "check.h"

#include <chrono>
#include <exception>

namespace xlmr::test {
namespace {
int failures = 0;
}

void failed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "\n%s:%d: not true: %s\n", file, line, condition);
  if (++failures == 20) {
    std::fprintf(stderr, "twenty failures: giving up\n");
    std::exit(1);
  }
}

}  // namespace xlmr::test

int main() {
  using xlmr::test::Case;
  // Registered last to first; turned round, they run in the order of the file.
  Case* ordered = nullptr;
  for (Case *c = Case::first(), *next; c != nullptr; c = next) {
    next = c->next;
    c->next = ordered;
    ordered = c;
  }
  for (Case* c = ordered; c != nullptr; c = c->next) {
    const auto begin = std::chrono::steady_clock::now();
    const int before = xlmr::test::failures;
    try {
      c->run();
    } catch (const std::exception& fault) {
      std::fprintf(stderr, "%s threw: %s", c->name, fault.what());
      xlmr::test::failed(__FILE__, __LINE__, c->name);
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    std::printf("%-4s %-60s %6.2f s\n", xlmr::test::failures == before ? "ok" : "FAIL", c->name, took.count());
    std::fflush(stdout);
  }
  return xlmr::test::failures == 0 ? 0 : 1;
}
