// Stands in for libFuzzer where the compiler has none: a fixed number of inputs from a seed, random
// or made from a valid one. With file names instead, runs just those, as libFuzzer does.
//
//   fuzz_batches [--runs 1000] [--seed 1]        fuzz_batches FILE...
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "check.h"
#include "target.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define XLMR_SANITIZED
#include <sanitizer/common_interface_defs.h>
#endif

namespace {

using xlmr::test::Random;

std::vector<uint8_t> current;

// So that the input that ended the process can be run again.
[[maybe_unused]] void keep_current() {
  if (std::FILE* file = std::fopen("crash-input", "wb")) {
    std::fwrite(current.data(), 1, current.size(), file);
    std::fclose(file);
    std::fprintf(stderr, "the input is in ./crash-input\n");
  }
}

std::vector<uint8_t> random_input(Random& random) {
  std::vector<uint8_t> input(size_t(random.between(0, random.between(0, 3) == 0 ? 4000 : 200)));
  for (uint8_t& byte : input) byte = uint8_t(random.bits());
  return input;
}

std::vector<uint8_t> damaged(std::vector<uint8_t> input, Random& random) {
  for (long n = random.between(1, 4); n > 0 && !input.empty(); n--) {
    const size_t at = size_t(random.between(0, long(input.size()) - 1));
    const size_t length = size_t(random.between(1, std::min<long>(64, long(input.size() - at))));
    switch (random.between(0, 4)) {
      case 0: input[at] ^= uint8_t(1 << random.between(0, 7)); break;
      case 1: input[at] = uint8_t(random.bits()); break;
      case 2: input.resize(at); break;
      case 3: input.erase(input.begin() + long(at), input.begin() + long(at + length)); break;
      default: {
        const std::vector<uint8_t> part(input.begin() + long(at), input.begin() + long(at + length));
        input.insert(input.begin() + random.between(0, long(at)), part.begin(), part.end());
      }
    }
  }
  return input;
}

void run(std::vector<uint8_t> input) {
  current = std::move(input);
  // A copy of its own, so that a sanitizer sees one byte too many.
  const std::vector<uint8_t> exact(current.begin(), current.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

int run_file(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) {
    std::fprintf(stderr, "%s cannot be read\n", path);
    return 1;
  }
  std::vector<uint8_t> input;
  for (int byte; (byte = std::fgetc(file)) != EOF;) input.push_back(uint8_t(byte));
  std::fclose(file);
  run(input);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
#if defined(XLMR_SANITIZED)
  __sanitizer_set_death_callback(keep_current);
#endif
  long runs = 1000;
  uint64_t seed = 1;
  for (int i = 1; i < count; i++) {
    if (i + 1 < count && std::strcmp(arguments[i], "--runs") == 0) runs = std::atol(arguments[++i]);
    else if (i + 1 < count && std::strcmp(arguments[i], "--seed") == 0) seed = uint64_t(std::atoll(arguments[++i]));
    else if (const int failed = run_file(arguments[i])) return failed;
    else runs = 0;
  }
  if (runs == 0) return 0;
  Random random(seed);
  const std::vector<uint8_t> valid = example();
  run(valid);
  for (long i = 0; i < runs; i++) run(i % 2 == 0 ? random_input(random) : damaged(valid, random));
  std::printf("%ld inputs from seed %llu\n", runs, static_cast<unsigned long long>(seed));
  return 0;
}
