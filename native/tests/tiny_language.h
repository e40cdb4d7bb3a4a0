// A classifier of a few kilobytes with random weights, in fastText's file format.
#pragma once
#include <array>
#include <map>
#include <string>
#include <vector>

#include "check.h"

namespace xlmr::test {

struct TinyLanguage {
  static constexpr int kDimension = 16, kCodes = 8;
  int buckets = 300, shortest = 2, longest = 4;
  std::vector<std::string> words{"</s>", "ab", "abc", "é", "ünd", "日本"}, labels{"xa", "xb", "xc", "xd", "xe"};
  std::vector<int64_t> counts{90, 40, 40, 5, 1};
  std::map<int, int> pruned;  // bucket: place
  std::vector<uint8_t> codes, norm_codes;
  std::array<float, 256 * kDimension> centroids;
  std::array<float, 256> norms;
  std::vector<float> questions;

  explicit TinyLanguage(uint64_t seed) {
    Random random(seed);
    std::vector<int> places;
    for (int bucket = 0; bucket < buckets; bucket++)
      if (random.between(0, 2) > 0) places.push_back(bucket);
    for (size_t i = places.size(); i > 1; i--) std::swap(places[i - 1], places[size_t(random.between(0, long(i) - 1))]);
    for (size_t place = 0; place < places.size(); place++) pruned[places[place]] = int(place);
    codes.resize(rows() * kCodes);
    norm_codes.resize(rows());
    for (uint8_t& code : codes) code = uint8_t(random.bits());
    for (uint8_t& code : norm_codes) code = uint8_t(random.bits());
    for (float& x : centroids) x = random.uniform();
    for (float& x : norms) x = 2.0f + random.uniform();
    questions.resize(labels.size() * kDimension);
    for (float& x : questions) x = 2.0f * random.uniform();
  }

  size_t rows() const { return words.size() + pruned.size(); }

  std::string file() const {
    std::string out;
    const auto put = [&](auto value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); };
    const auto put_all = [&](const auto& values) {
      out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof values[0]);
    };
    const auto put_ints = [&](std::initializer_list<int32_t> values) {
      for (const int32_t value : values) put(value);
    };
    put_ints({793712314, 12, kDimension, 5, 5, 1000, 5, 1, 1, 3, buckets, shortest, longest, 100});
    put(1e-4);
    put_ints({int32_t(words.size() + labels.size()), int32_t(words.size()), int32_t(labels.size())});
    put(int64_t(1000));
    put(int64_t(pruned.size()));
    const auto put_entry = [&](const std::string& text, int64_t count, int8_t kind) {
      out.append(text.c_str(), text.size() + 1);
      put(count);
      put(kind);
    };
    for (const std::string& word : words) put_entry(word, 7, 0);
    for (size_t i = 0; i < labels.size(); i++) put_entry("__label__" + labels[i], counts[i], 1);
    for (const auto& [bucket, place] : pruned) put_ints({bucket, place});
    put(uint8_t(1));
    put(uint8_t(1));
    put(int64_t(rows()));
    put(int64_t(kDimension));
    put(int32_t(codes.size()));
    put_all(codes);
    put_ints({kDimension, kCodes, 2, 2});
    put_all(centroids);
    put_all(norm_codes);
    put_ints({1, 1, 1, 1});
    put_all(norms);
    put(uint8_t(0));
    put(int64_t(labels.size()));
    put(int64_t(kDimension));
    put_all(questions);
    return out;
  }
};

}  // namespace xlmr::test
