// Encoders of a few kilobytes with random weights, for tests and fuzzing.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include "check.h"
#include "engine.h"

namespace xlmr::test {

// vocabulary, hidden, layers, heads, intermediate, position_rows, pad_id, norm_epsilon, pre_norm
constexpr Shape kTiny{50, 32, 2, 4, 80, 140, 1, 1e-5, 0};
constexpr Shape kTinyPreNorm{50, 40, 2, 5, 96, 140, 1, 1e-5, 1};
constexpr Shape kNarrow{50, 128, 2, 2, 192, 1300, 1, 1e-5, 0};  // heads of 64, long texts
inline const std::string kDigest(64, 'd');

// A file that is gone when its owner is.
struct TemporaryFile {
  std::string path;
  TemporaryFile() {
    const char* directory = std::getenv("TMPDIR");
    path = std::string(directory != nullptr ? directory : "/tmp") + "/xlmr-native-XXXXXX";
    const int handle = mkstemp(path.data());
    if (handle < 0) std::abort();
    close(handle);
  }
  ~TemporaryFile() { unlink(path.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(const void* data, size_t bytes) const {
    std::FILE* file = std::fopen(path.c_str(), "wb");
    if (file == nullptr || (bytes > 0 && std::fwrite(data, 1, bytes, file) != bytes) || std::fclose(file) != 0)
      std::abort();
  }
  std::vector<char> read() const {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    std::vector<char> content;
    char part[4096];
    for (size_t got; file != nullptr && (got = std::fread(part, 1, sizeof part, file)) > 0;)
      content.insert(content.end(), part, part + got);
    if (file == nullptr || std::fclose(file) != 0) std::abort();
    return content;
  }
};

inline void prepare_random(const std::string& path, const Shape& shape, Precision precision, uint64_t seed) {
  std::vector<float> values;
  const Source source = [&](const std::string& name, size_t count) {
    uint64_t state = seed;
    for (const char c : name) state = state * 131 + uint64_t(c);
    Random random(state);
    const bool gain = name.find("norm.weight") != std::string::npos || name.find(".smoothing") != std::string::npos;
    values.resize(count);
    for (float& value : values) value = (gain ? 1.0f : 0.0f) + 0.2f * random.uniform();
    return values.data();
  };
  prepare_weights(path, shape, precision, kDigest, source, nullptr);
}

// Engines over random weights; one file for each shape and precision.
class TinyEngines {
 public:
  explicit TinyEngines(const Shape& shape, uint64_t seed = 1) : shape_(shape), seed_(seed) {}

  std::unique_ptr<Engine> open(Precision precision, const Kernels* kernels, int threads) {
    auto& file = files_[precision];
    if (file == nullptr) {
      file = std::make_unique<TemporaryFile>();
      prepare_random(file->path, shape_, precision, seed_);
    }
    return std::make_unique<Engine>(std::make_unique<Weights>(file->path, shape_, precision, kDigest), kernels, threads);
  }

 private:
  const Shape shape_;
  const uint64_t seed_;
  std::map<Precision, std::unique_ptr<TemporaryFile>> files_;
};

struct Texts {
  std::vector<int32_t> ids, starts{0};
  long count() const { return long(starts.size()) - 1; }
  void add(const Shape& shape, long length, Random& random) {
    for (long i = 0; i < length; i++) ids.push_back(int32_t(random.between(0, shape.vocabulary - 1)));
    starts.push_back(int32_t(ids.size()));
  }
  Texts alone(long text) const {
    Texts one;
    one.ids.assign(ids.begin() + starts[size_t(text)], ids.begin() + starts[size_t(text) + 1]);
    one.starts.push_back(int32_t(one.ids.size()));
    return one;
  }
};

// The ids, starts and answers lie in memory that ends with them.
inline std::vector<float> run(Engine& engine, const Texts& texts, bool first_rows = false) {
  const long rows = first_rows ? texts.count() : long(texts.ids.size());
  const long hidden = long(engine.shape().hidden);
  Exact<int32_t> ids(long(texts.ids.size())), starts(long(texts.starts.size()));
  std::copy(texts.ids.begin(), texts.ids.end(), ids.data);
  std::copy(texts.starts.begin(), texts.starts.end(), starts.data);
  Exact<float> out(rows * hidden);
  engine.run(ids.data, starts.data, texts.count(), first_rows, out.data);
  return {out.data, out.data + rows * hidden};
}

}  // namespace xlmr::test
