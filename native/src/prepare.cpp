// From named float arrays to the prepared weight file.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>

#include "crew.h"
#include "layout.h"
#include "weights.h"

namespace xlmr {
namespace {

uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float largest(const float* row, long n) {
  float most = 0;
  for (long i = 0; i < n; i++) most = std::max(most, std::fabs(row[i]));
  return most;
}

void quantise(const float* row, long n, float scale, int8_t* out) {
  const float by = scale > 0 ? 1.0f / scale : 0.0f;
  for (long i = 0; i < n; i++)
    out[i] = int8_t(std::nearbyintf(std::min(127.0f, std::max(-127.0f, row[i] * by))));
}

template <class Work>
void in_parallel(long n, const Work& work) {
  constexpr long kAtOnce = 64;
  std::atomic<long> next{0};
  on_threads(unsigned(std::min<long>((n + kAtOnce - 1) / kAtOnce, std::thread::hardware_concurrency())), [&](unsigned) {
    for (long first = next.fetch_add(kAtOnce); first < n; first = next.fetch_add(kAtOnce))
      for (long i = first; i < std::min(n, first + kAtOnce); i++) work(i);
  });
}

// Quantising would turn a NaN into some number, and every answer into a confident wrong one.
void require_finite(const std::string& name, const float* values, size_t count) {
  constexpr long kRow = 4096;
  std::atomic<bool> broken{false};
  in_parallel((long(count) + kRow - 1) / kRow, [&](long row) {
    const long first = row * kRow, end = std::min(long(count), first + kRow);
    int32_t most = 0;
    for (long i = first; i < end; i++) {
      int32_t bits;
      std::memcpy(&bits, values + i, 4);
      most = std::max(most, bits & 0x7fffffff);
    }
    if (most >= 0x7f800000) broken = true;  // infinity's bits; NaN's are above
  });
  if (broken) throw BrokenWeights(name + " holds a NaN or an infinity");
}

// One column of one panel: its words go 64 apart.
void pack_column(const float* row, const float* smoothing, float factor, long depth, long steps, Precision p, float scale, long lane,
                 char* panel) {
  const long each = per_word(p);
  for (long k = 0; k < steps * each; k++) {
    const float value = k < depth ? row[k] * smoothing[k] * factor : 0.0f;
    char* word = panel + (k / each * kPanel + lane) * 4;
    if (p == Precision::kInt8) {
      const float by = scale > 0 ? 1.0f / scale : 0.0f;
      const long q = long(std::nearbyintf(std::min(127.0f, std::max(-127.0f, value * by))));
      reinterpret_cast<uint8_t*>(word)[k % 4] = uint8_t(q + 128);
    } else if (p == Precision::kBf16) {
      reinterpret_cast<uint16_t*>(word)[k % 2] = to_bf16(value);
    } else {
      *reinterpret_cast<float*>(word) = value;
    }
  }
}

class Writer {
 public:
  Writer(const std::string& path, const Shape& shape, Precision precision, const Source& source,
         const Progress& progress)
      : shape_(shape), precision_(precision), source_(source), progress_(progress),
        total_(payload_bytes(shape, precision)), file_(std::fopen(path.c_str(), "wb"), std::fclose), path_(path) {
    if (!file_) fail("cannot be created");
    std::vector<char> header(kHeaderBytes, 0);
    put(header.data(), header.size());
  }

  void section(Section kind, const std::string& name, long rows, long columns, size_t bytes) {
    buffer_.assign(on_line(bytes), 0);
    switch (kind) {
      case Section::kWords: words(rows, columns); break;
      case Section::kWordScale: std::memcpy(buffer_.data(), scales_.data(), size_t(rows) * 4); break;
      case Section::kPositions: positions(rows, columns); break;
      case Section::kGain: copy(name + ".weight", columns); break;
      case Section::kBias: copy(name + ".bias", columns); break;
      case Section::kSmoothing: smoothing(name, columns); break;
      case Section::kMatrix: matrix(name, rows, columns); break;
      case Section::kMatrixScale: std::memcpy(buffer_.data(), scales_.data(), bytes); break;
      case Section::kMatrixBias: matrix_bias(name, rows); break;
    }
    hash(buffer_.data(), buffer_.size());
    put(buffer_.data(), buffer_.size());
    if (progress_) progress_(written_, total_);
  }

  void finish(const std::string& digest) {
    if (!pending_.empty()) fold();
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.version = kVersion;
    header.precision = uint32_t(precision_);
    header.shape = shape_;
    std::memcpy(header.digest, digest.data(), std::min(digest.size(), sizeof header.digest));
    header.payload = written_;
    header.checksum = checksum_;
    header.own = checksum(&header, offsetof(Header, own), kVersion);
    if (std::fseek(file_.get(), 0, SEEK_SET) != 0) fail("cannot be written");
    put(&header, sizeof header);
    if (std::fflush(file_.get()) != 0 || fsync(fileno(file_.get())) != 0) fail("cannot be written");
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw WeightsFault(path_ + ": " + what + " (" + std::strerror(errno) + ")");
  }

  void put(const void* data, size_t bytes) {
    if (std::fwrite(data, 1, bytes, file_.get()) != bytes) fail("cannot be written");
  }

  // The checksum runs over the payload in pieces of fixed length, whatever the sections are.
  void hash(const char* data, size_t bytes) {
    written_ += bytes;
    while (bytes > 0) {
      const size_t take = std::min(bytes, kPiece - pending_.size());
      pending_.insert(pending_.end(), data, data + take);
      data += take;
      bytes -= take;
      if (pending_.size() == kPiece) fold();
    }
  }
  void fold() {
    const uint64_t piece = checksum(pending_.data(), pending_.size(), 0);
    checksum_ = checksum(&piece, sizeof piece, checksum_);
    pending_.clear();
  }

  const float* read(const std::string& name, size_t count) const {
    const float* values = source_(name, count);
    require_finite(name, values, count);
    return values;
  }

  void copy(const std::string& name, long count) {
    std::memcpy(buffer_.data(), read(name, size_t(count)), size_t(count) * 4);
  }

  void words(long rows, long columns) {
    const float* table = read("embeddings.word", size_t(rows) * size_t(columns));
    const long width = shape_.width();
    scales_.assign(size_t(rows), 0.0f);
    in_parallel(rows, [&](long r) {
      const float* row = table + r * columns;
      if (precision_ == Precision::kInt8) {
        scales_[size_t(r)] = largest(row, columns) / 127.0f;
        quantise(row, columns, scales_[size_t(r)], reinterpret_cast<int8_t*>(buffer_.data()) + r * width);
      } else if (precision_ == Precision::kBf16) {
        uint16_t* out = reinterpret_cast<uint16_t*>(buffer_.data()) + r * width;
        for (long i = 0; i < columns; i++) out[i] = to_bf16(row[i]);
      } else {
        std::memcpy(buffer_.data() + size_t(r * width) * 4, row, size_t(columns) * 4);
      }
    });
  }

  void positions(long rows, long columns) {
    std::vector<float> type(size_t(columns), 0.0f);
    std::memcpy(type.data(), read("embeddings.type", size_t(columns)), size_t(columns) * 4);
    const float* table = read("embeddings.position", size_t(rows) * size_t(columns));
    float* out = reinterpret_cast<float*>(buffer_.data());
    for (long r = 0; r < rows; r++)
      for (long i = 0; i < columns; i++) out[r * shape_.width() + i] = table[r * columns + i] + type[size_t(i)];
  }

  // The parts of a matrix by name, with the column each begins at and what multiplies it.
  struct Part {
    std::string name;
    long first;
    long columns;
    float factor;
  };
  std::vector<Part> parts(const std::string& name, long columns) const {
    const size_t at = name.find("qkv");
    if (at == std::string::npos) return {{name, 0, columns, 1.0f}};
    const std::string layer = name.substr(0, at);
    const float scale = 1.0f / std::sqrt(float(shape_.head_width()));
    return {{layer + "query", 0, shape_.hidden, scale},
            {layer + "key", shape_.width(), shape_.hidden, 1.0f},
            {layer + "value", 2 * shape_.width(), shape_.hidden, 1.0f}};
  }

  void smoothing(const std::string& name, long columns) {
    const std::string array = name + ".smoothing";
    const float* values = read(array, size_t(columns));
    smoothing_.assign(values, values + columns);
    float* out = reinterpret_cast<float*>(buffer_.data());
    for (long i = 0; i < columns; i++) {
      out[i] = 1.0f / values[i];
      if (!(values[i] > 0) || !(out[i] > 0 && out[i] < INFINITY)) throw BrokenWeights(array + " is not above zero");
    }
  }

  void matrix(const std::string& name, long columns, long depth) {
    if (smoothing_.empty()) smoothing_.assign(size_t(depth), 1.0f);
    const long steps = round_up(depth, kPanel) / per_word(precision_);
    const long padded = long(buffer_.size()) / (steps * 4) / kPanel * kPanel;
    scales_.assign(size_t(padded), 0.0f);
    if (precision_ == Precision::kInt8) std::memset(buffer_.data(), 128, buffer_.size());
    for (const Part& part : parts(name, columns)) {
      const float* values = read(part.name + ".weight", size_t(part.columns) * size_t(depth));
      in_parallel(part.columns, [&](long c) {
        const long column = part.first + c;
        const float* row = values + c * depth;
        float most = 0;
        for (long i = 0; i < depth; i++) most = std::max(most, std::fabs(row[i] * smoothing_[size_t(i)]));
        const float scale = most * part.factor / 127.0f;
        scales_[size_t(column)] = scale;
        char* panel = buffer_.data() + size_t(column / kPanel * kPanel * steps) * 4;
        pack_column(row, smoothing_.data(), part.factor, depth, steps, precision_, scale, column % kPanel, panel);
      });
    }
    smoothing_.clear();
  }

  void matrix_bias(const std::string& name, long columns) {
    float* out = reinterpret_cast<float*>(buffer_.data());
    for (const Part& part : parts(name, columns)) {
      const float* values = read(part.name + ".bias", size_t(part.columns));
      for (long c = 0; c < part.columns; c++) out[part.first + c] = values[c] * part.factor;
    }
  }

  const Shape shape_;
  const Precision precision_;
  const Source& source_;
  const Progress& progress_;
  const uint64_t total_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  const std::string path_;
  std::vector<char> buffer_;
  std::vector<char> pending_;
  std::vector<float> scales_;     // of the section just written
  std::vector<float> smoothing_;  // of the matrix that comes next
  uint64_t written_ = 0;
  uint64_t checksum_ = 0;
};

}  // namespace

void prepare_weights(const std::string& path, const Shape& shape, Precision precision, const std::string& digest,
                     const Source& source, const Progress& progress) {
  Writer writer(path, shape, precision, source, progress);
  visit_sections(shape, precision, [&](Section kind, const std::string& name, long rows, long columns, size_t bytes) {
    writer.section(kind, name, rows, columns, bytes);
  });
  writer.finish(digest);
}

}  // namespace xlmr
