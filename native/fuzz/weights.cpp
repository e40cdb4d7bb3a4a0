// Prepared weight files of any content: refused with a WeightsFault or, where the checksums were
// made to fit, opened and computed with: finite numbers or a NotFinite; never a crash.
//
// An input: a byte for the kind, then 0: the file itself; 1: its length, then changes of a valid
// file, each an offset and a value; 2: changes of the payload, with all checksums right again.
#include <algorithm>
#include <cmath>

#include "layout.h"
#include "target.h"
#include "tiny.h"

using namespace xlmr;
using namespace xlmr::test;

namespace {

constexpr Precision kPrecision = Precision::kInt8;

const std::vector<char>& valid() {
  static const std::vector<char> content = [] {
    const TemporaryFile file;
    prepare_random(file.path, kTiny, kPrecision, 1);
    return file.read();
  }();
  return content;
}

void change(std::vector<char>& content, size_t first, Input& input) {
  while (input.left > 0) {
    const uint32_t offset = input.word(), value = input.word();
    if (content.size() >= first + 4) std::memcpy(&content[first + offset % (content.size() - first - 3)], &value, 4);
  }
}

void make_right(std::vector<char>& content) {
  Header header;
  std::memcpy(&header, content.data(), sizeof header);
  const uint64_t piece = checksum(content.data() + kHeaderBytes, content.size() - kHeaderBytes, 0);
  static_assert(sizeof piece == 8);
  header.checksum = checksum(&piece, sizeof piece, 0);
  header.own = checksum(&header, offsetof(Header, own), kVersion);
  std::memcpy(content.data(), &header, sizeof header);
}

}  // namespace

std::vector<uint8_t> example() {
  std::vector<uint8_t> input{0};
  input.insert(input.end(), valid().begin(), valid().end());
  return input;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const TemporaryFile file;
  Input input{data, size};
  std::vector<char> content;
  const int kind = input.byte() % 3;
  if (kind == 0) {
    content.assign(input.data, input.data + input.left);
  } else {
    content = valid();
    if (kind == 1) content.resize(input.word() % (content.size() + 100));
    change(content, kind == 1 ? 0 : kHeaderBytes, input);
    if (kind == 2) make_right(content);
  }
  file.write(content.data(), content.size());
  std::unique_ptr<Weights> weights;
  try {
    weights = std::make_unique<Weights>(file.path, kTiny, kPrecision, kDigest);
  } catch (const WeightsFault&) {
    if (kind == 2) std::abort();
    return 0;
  }
  if (kind < 2 && content != valid()) std::abort();
  // Any payload is computed with: not-a-numbers and all, on the plainest kernels and the best.
  for (const char* name : {"portable", "auto"}) {
    Engine engine(std::move(weights), find_kernels(name), 1);
    Random random(1);
    Texts texts;
    for (const long length : {1L, 5L, 20L}) texts.add(kTiny, length, random);
    try {
      const std::vector<float> answer = run(engine, texts);
      if (!std::all_of(answer.begin(), answer.end(), [](float x) { return std::isfinite(x); })) std::abort();
    } catch (const NotFinite&) {  // as it should be
    }
    weights = std::make_unique<Weights>(file.path, kTiny, kPrecision, kDigest);
  }
  return 0;
}
