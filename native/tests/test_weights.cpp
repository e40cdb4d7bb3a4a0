// Damaged, foreign and missing prepared weights: always a WeightsFault, never a crash, never silence.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>

#include "check.h"
#include "layout.h"
#include "tiny.h"

using namespace xlmr;
using namespace xlmr::test;

namespace {

// What opening says; empty if it opens.
std::string fault_of(const std::string& path, const Shape& shape = kTiny, Precision precision = Precision::kInt8,
                     const std::string& digest = kDigest) {
  try {
    Weights weights(path, shape, precision, digest);
    return "";
  } catch (const WeightsFault& fault) {
    return fault.what();
  }
}

// A prepared file, and the same file with something changed.
struct Prepared {
  TemporaryFile file;
  std::vector<char> whole;
  explicit Prepared(Precision precision = Precision::kInt8) {
    prepare_random(file.path, kTiny, precision, 1);
    whole = file.read();
  }
  // One byte of the file on disk, for the life of the object.
  struct Flip {
    int handle;
    long at;
    char old;
    Flip(const Prepared& prepared, long at_, int with) : handle(open(prepared.file.path.c_str(), O_WRONLY)), at(at_) {
      old = prepared.whole[size_t(at)];
      put(char(old ^ with));
    }
    ~Flip() {
      put(old);
      close(handle);
    }
    void put(char byte) const {
      if (pwrite(handle, &byte, 1, at) != 1) std::abort();
    }
  };
};

CASE(a_whole_file_opens) {
  for (const Precision precision : {Precision::kInt8, Precision::kBf16, Precision::kFp32}) {
    const Prepared prepared(precision);
    EXPECT(fault_of(prepared.file.path, kTiny, precision).empty(), "precision %d", int(precision));
  }
}

CASE(every_byte_of_the_header_counts) {
  const Prepared prepared;
  Random random(1);
  for (long at = 0; at < long(kHeaderBytes); at++) {
    const Prepared::Flip flip(prepared, at, 1 << random.between(0, 7));
    EXPECT(!fault_of(prepared.file.path).empty(), "byte %ld of the header", at);
  }
  EXPECT(fault_of(prepared.file.path).empty(), "the file was not restored");
}

CASE(every_bit_of_the_payload_counts) {
  const Prepared prepared;
  Random random(2);
  const long end = long(prepared.whole.size()), first = long(kHeaderBytes);
  for (int i = 0; i < 400; i++) {
    const long at = i == 0 ? first : i == 1 ? end - 1 : random.between(first, end - 1);
    const Prepared::Flip flip(prepared, at, 1 << random.between(0, 7));
    EXPECT(fault_of(prepared.file.path).find("corrupted") != std::string::npos, "byte %ld", at);
  }
}

CASE(every_truncation_and_every_addition_is_seen) {
  const Prepared prepared;
  Random random(3);
  const TemporaryFile cut;
  const long size = long(prepared.whole.size());
  for (int i = 0; i < 300; i++) {
    const long left = i < 3 ? i : i == 3 ? long(kHeaderBytes) : i == 4 ? size - 1 : random.between(0, size - 1);
    cut.write(prepared.whole.data(), size_t(left));
    EXPECT(fault_of(cut.path).find("truncated") != std::string::npos, "%ld of %ld bytes: %s", left, size,
           fault_of(cut.path).c_str());
  }
  std::vector<char> longer = prepared.whole;
  longer.resize(longer.size() + 64, 0);
  cut.write(longer.data(), longer.size());
  EXPECT(!fault_of(cut.path).empty(), "64 bytes too many");
}

// Two pieces of the payload change places; a plain sum would not notice.
CASE(moved_content_is_seen) {
  const Prepared prepared;
  std::vector<char> moved = prepared.whole;
  std::swap_ranges(moved.begin() + long(kHeaderBytes), moved.begin() + long(kHeaderBytes) + 512,
                   moved.begin() + long(kHeaderBytes) + 1024);
  const TemporaryFile file;
  file.write(moved.data(), moved.size());
  EXPECT(fault_of(file.path).find("corrupted") != std::string::npos, "swapped halves of a kilobyte");
}

CASE(the_file_of_another_model_is_refused) {
  const Prepared prepared;
  const std::string& path = prepared.file.path;
  const auto foreign = [&](int64_t Shape::*field, int64_t value) {
    Shape shape = kTiny;
    shape.*field = value;
    EXPECT(fault_of(path, shape).find("another model") != std::string::npos, "%s", fault_of(path, shape).c_str());
  };
  foreign(&Shape::vocabulary, kTiny.vocabulary + 1);
  foreign(&Shape::hidden, 64);
  foreign(&Shape::layers, 3);
  foreign(&Shape::heads, 2);
  foreign(&Shape::intermediate, 96);
  foreign(&Shape::position_rows, 141);
  foreign(&Shape::pad_id, 0);
  foreign(&Shape::pre_norm, 1);
  EXPECT(fault_of(path, kTiny, Precision::kBf16).find("another model") != std::string::npos, "another precision");
  EXPECT(fault_of(path, kTiny, Precision::kInt8, std::string(64, 'e')).find("stale") != std::string::npos, "digest");
}

CASE(a_header_that_lies_about_its_payload_is_refused) {
  const Prepared prepared;
  const TemporaryFile file;
  const auto with = [&](auto change) {
    std::vector<char> content = prepared.whole;
    Header header;
    std::memcpy(&header, content.data(), sizeof header);
    change(header);
    header.own = checksum(&header, offsetof(Header, own), kVersion);
    std::memcpy(content.data(), &header, sizeof header);
    file.write(content.data(), content.size());
    return fault_of(file.path);
  };
  EXPECT(with([](Header&) {}).empty(), "unchanged");
  EXPECT(!with([](Header& h) { h.payload = 0; }).empty(), "no payload");
  EXPECT(!with([](Header& h) { h.payload = ~uint64_t(0); }).empty(), "endless payload");
  EXPECT(!with([](Header& h) { h.payload -= 64; }).empty(), "shorter");
  EXPECT(!with([](Header& h) { h.checksum ^= 1; }).empty(), "another checksum");
  EXPECT(!with([](Header& h) { h.version++; }).empty(), "a later version");
  EXPECT(!with([](Header& h) { h.precision = 77; }).empty(), "an unknown precision");
}

CASE(what_is_no_file_is_refused) {
  EXPECT(!fault_of("/nonexistent/weights").empty(), "missing");
  EXPECT(!fault_of("/tmp").empty(), "a directory");
  EXPECT(!fault_of("/dev/null").empty(), "empty and endless");
}

CASE(preparing_where_it_cannot_be_written_is_a_fault) {
  for (const char* path : {"/nonexistent/weights", "/tmp", "/dev/full"}) {
    bool refused = false;
    try {
      prepare_random(path, kTiny, Precision::kInt8, 1);
    } catch (const WeightsFault&) {
      refused = true;
    }
    EXPECT(refused, "%s", path);
  }
}

CASE(weights_that_are_not_finite_are_not_prepared) {
  const TemporaryFile file;
  for (const Precision precision : {Precision::kInt8, Precision::kBf16, Precision::kFp32})
    for (const char* broken : {"embeddings.word", "embeddings.type", "embeddings.position", "embeddings.norm.bias",
                               "layers.0.query.weight", "layers.1.value.bias", "layers.1.down.weight"})
      for (const float bad : {NAN, INFINITY, -INFINITY})
        for (const bool last : {false, true}) {
          std::vector<float> values;
          const Source source = [&](const std::string& name, size_t count) {
            values.assign(count, 0.25f);
            if (name == broken) values[last ? count - 1 : 0] = bad;
            return values.data();
          };
          std::string fault;
          try {
            prepare_weights(file.path, kTiny, precision, kDigest, source, nullptr);
          } catch (const BrokenWeights& refused) {
            fault = refused.what();
          }
          EXPECT(fault.find(broken) == 0, "%g in %s, precision %d: %s", double(bad), broken, int(precision),
                 fault.c_str());
        }
}

CASE(writing_to_a_file_in_use_is_seen) {
  const Prepared prepared;
  const auto fault_after = [&](auto change) {
    const TemporaryFile file;
    file.write(prepared.whole.data(), prepared.whole.size());
    const timespec past[2] = {{1000, 0}, {1000, 0}};  // not within the clock's grain of the change
    if (utimensat(AT_FDCWD, file.path.c_str(), past, 0) != 0) std::abort();
    const Weights weights(file.path, kTiny, Precision::kInt8, kDigest);
    change(file.path);
    try {
      weights.check_unchanged();
      return std::string();
    } catch (const WeightsFault& fault) {
      return std::string(fault.what());
    }
  };
  const auto cut = [](const std::string& path) {
    if (truncate(path.c_str(), 4096) != 0) std::abort();
  };
  EXPECT(fault_after(cut).find("written to while in use") != std::string::npos, "cut short");
  const auto overwrite = [](const std::string& path) {
    const int handle = open(path.c_str(), O_WRONLY);
    if (pwrite(handle, "x", 1, 5000) != 1) std::abort();
    close(handle);
  };
  EXPECT(fault_after(overwrite).find("written to while in use") != std::string::npos, "one byte");
  // What we do ourselves: another file takes the name, or nobody has it any more.
  EXPECT(fault_after([&](const std::string& path) { rename(TemporaryFile().path.c_str(), path.c_str()); }).empty(),
         "replaced");
  EXPECT(fault_after([](const std::string& path) { unlink(path.c_str()); }).empty(), "deleted");
  EXPECT(fault_after([](const std::string& path) { chmod(path.c_str(), 0444); }).empty(), "made read-only");
}

CASE(preparing_twice_gives_the_same_bytes) {
  for (const Precision precision : {Precision::kInt8, Precision::kBf16, Precision::kFp32})
    EXPECT(Prepared(precision).whole == Prepared(precision).whole, "precision %d", int(precision));
}

}  // namespace
