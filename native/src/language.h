// Which language a text is in: fastText's classifier, read from the file fastText writes.
//
// A text is the mean of the vectors of its words and of the n-grams of their characters; a tree of
// yes-or-no questions (hierarchical softmax) leads from it to a label.
#pragma once
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace xlmr {

// The file is not a whole model of the one kind that is read here.
struct LanguageFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a character is to a word.
enum class CharacterKind : uint8_t { kBetween, kLetter, kWithin, kSurrogate };

// The words of a text in UTF-8, each in brackets as the model's n-grams have it: `<one><two>`.
class Words {
 public:
  // Characters in order. Whatever is between words ends one.
  void put(uint32_t code, CharacterKind kind);
  // The end of the text: false where it has no letter, or a lone surrogate.
  bool close();
  std::string_view all() const { return words_; }

 private:
  std::string words_;
  bool inside_ = false, letter_ = false, surrogate_ = false;
};

// Immutable once read: safe to ask from several threads.
class LanguageModel {
 public:
  // Quantised, with pruned n-grams, vectors of 16 and hierarchical softmax, as `lid.176.ftz` is.
  explicit LanguageModel(std::string_view file);

  struct Guess {
    int label;  // -1: nothing can be said
    float probability;
  };
  // The likeliest label of words in brackets.
  Guess best(std::string_view words) const;

  const std::vector<std::string>& labels() const { return labels_; }

 private:
  static constexpr int kDimension = 16;
  using Vector = std::array<float, kDimension>;
  struct Slot {
    uint32_t hash;
    int32_t word;  // -1: free
  };
  // 64 buckets of n-grams: which of them were kept, and how many were in all blocks before.
  struct Block {
    uint64_t kept;
    uint32_t before;
  };
  // A vector: each code stands for two of its numbers, all times the norm.
  struct alignas(16) Row {
    std::array<uint8_t, kDimension / 2> codes;
    float norm;
  };
  struct Node {
    int left, right;
  };
  struct Path {
    int node;
    float score;
  };

  void read_dictionary(class ModelFile& file);
  std::vector<uint32_t> read_pruned(class ModelFile& file, size_t count);
  void read_vectors(class ModelFile& file, const std::vector<uint32_t>& places);
  void build_tree(const std::vector<int64_t>& counts);

  // The vectors of a text added up.
  struct Sum;

  long word_row(std::string_view word, uint32_t hash) const;
  void add_word(std::string_view word, Sum& sum) const;
  void add_waiting(Sum& sum) const;
  void descend(const Vector& text, Path path, Path& best) const;

  uint32_t buckets_ = 0;
  int shortest_ = 0, longest_ = 0;  // n-grams, in characters
  std::vector<std::string> words_, labels_;
  std::vector<Slot> slots_;
  std::vector<Block> blocks_;
  std::vector<float> centroids_;
  std::vector<Row> rows_;  // of the words, then of the n-grams in the order of their buckets
  std::vector<Vector> questions_;
  std::vector<Node> tree_;
  long end_of_line_ = -1;
};

}  // namespace xlmr
