// Language identification against a plain reading of fastText's rules, and against damaged files.
#include <cmath>
#include <string>

#include "language.h"
#include "tiny_language.h"

using namespace xlmr;
using namespace xlmr::test;

namespace {

using Strings = std::vector<std::string>;

std::string bracketed(const Strings& words) {
  std::string all;
  for (const std::string& word : words) all += "<" + word + ">";
  return all;
}

uint32_t hash_of(const std::string& text) {
  uint32_t hash = 2166136261u;
  for (const char byte : text) hash = (hash ^ uint32_t(int8_t(byte))) * 16777619u;
  return hash;
}

// The probability of every label: no pruning, no ranks, double precision.
std::vector<double> probabilities(const TinyLanguage& tiny, const Strings& words) {
  std::vector<size_t> rows;
  for (const std::string& word : words) {
    for (size_t i = 0; i < tiny.words.size(); i++)
      if (tiny.words[i] == word) rows.push_back(i);
    Strings characters;
    for (const char byte : "<" + word + ">") {
      if ((byte & 0xC0) == 0x80) characters.back() += byte;
      else characters.push_back(std::string(1, byte));
    }
    for (size_t begin = 0; begin < characters.size(); begin++) {
      std::string ngram;
      for (size_t end = begin; end < characters.size() && end - begin < size_t(tiny.longest); end++) {
        ngram += characters[end];
        const auto found = tiny.pruned.find(int(hash_of(ngram) % uint32_t(tiny.buckets)));
        if (end - begin + 1 >= size_t(tiny.shortest) && found != tiny.pruned.end())
          rows.push_back(tiny.words.size() + size_t(found->second));
      }
    }
  }
  rows.push_back(0);
  std::vector<double> text(16, 0.0);
  for (const size_t row : rows)
    for (size_t i = 0; i < 16; i++)
      text[i] += double(tiny.norms[tiny.norm_codes[row]]) *
                 tiny.centroids[(i / 2 * 256 + tiny.codes[row * 8 + i / 2]) * 2 + i % 2] / double(rows.size());
  // The tree of five labels that were seen 90, 40, 40, 5 and 1 times, by hand.
  const auto yes = [&](size_t question) {
    double sum = 0;
    for (size_t i = 0; i < 16; i++) sum += text[i] * tiny.questions[question * 16 + i];
    return 1 / (1 + std::exp(-sum));
  };
  const auto no = [&](size_t question) { return 1 - yes(question); };
  // 5: (e, d) 6; 6: (5, c) 46; 7: (b, 6) 86; 8: (7, a).
  return {yes(3), no(3) * no(2), no(3) * yes(2) * yes(1), no(3) * yes(2) * no(1) * yes(0),
          no(3) * yes(2) * no(1) * no(0)};
}

CASE(guesses_are_those_of_the_plain_rules) {
  Random random(1);
  const Strings letters{"a", "b", "c", "é", "ü", "日", "本", "n", "d", "\xF0\x90\x8C\xB0"};
  for (uint64_t seed = 1; seed <= 20; seed++) {
    const TinyLanguage tiny(seed);
    const LanguageModel model(tiny.file());
    EXPECT(model.labels() == tiny.labels, "labels");
    for (int round = 0; round < 50; round++) {
      Strings words;
      for (long n = random.between(0, 6); n > 0; n--) {
        std::string word;
        for (long length = random.between(1, 7); length > 0; length--) word += letters[size_t(random.between(0, 9))];
        words.push_back(random.between(0, 3) == 0 ? tiny.words[size_t(random.between(1, 5))] : word);
      }
      const std::vector<double> all = probabilities(tiny, words);
      const LanguageModel::Guess guess = model.best(bracketed(words));
      double best = 0;
      for (const double one : all) best = std::max(best, one);
      EXPECT(guess.label >= 0 && guess.label < 5, "label %d", guess.label);
      // fastText adds 1e-5 to each answer on the way down.
      EXPECT(std::abs(double(guess.probability) - best) < 1e-4, "%f, not %f", double(guess.probability), best);
      EXPECT(best - all[size_t(guess.label)] < 1e-4, "label %d is not the best", guess.label);
    }
  }
}

CASE(a_model_without_an_end_of_line_can_say_nothing_about_nothing) {
  TinyLanguage tiny(1);
  tiny.words[0] = "other";
  const LanguageModel model(tiny.file());
  EXPECT(model.best("").label == -1, "a guess from nothing");
  EXPECT(model.best("<abc>").label >= 0, "no guess from a word");
}

CASE(words_are_cut_where_there_is_no_letter) {
  const auto words_of = [](const std::vector<std::pair<uint32_t, CharacterKind>>& characters, bool& known) {
    Words words;
    for (const auto& [code, kind] : characters) words.put(code, kind);
    known = words.close();
    return std::string(words.all());
  };
  const auto letter = CharacterKind::kLetter, within = CharacterKind::kWithin, between = CharacterKind::kBetween;
  bool known = false;
  EXPECT(words_of({{' ', between}, {'a', letter}, {0x301, within}, {'1', between}, {'!', between}, {0x65E5, letter}},
                  known) == "<a\xCC\x81><日>" && known, "two words");
  EXPECT(words_of({{0x10330, letter}}, known) == "<\xF0\x90\x8C\xB0>" && known, "four bytes");
  words_of({}, known);
  EXPECT(!known, "nothing");
  words_of({{0x301, within}}, known);
  EXPECT(!known, "a mark alone");
  words_of({{'a', letter}, {0xD800, CharacterKind::kSurrogate}}, known);
  EXPECT(!known, "half a pair");
}

std::string fault_of(const std::string& content) {
  // Memory that ends with the file, so that a sanitizer sees one byte too many.
  const std::vector<char> exact(content.begin(), content.end());
  try {
    const LanguageModel model({exact.data(), exact.size()});
    return "";
  } catch (const LanguageFault& fault) {
    return fault.what();
  }
}

CASE(every_truncation_and_every_addition_is_seen) {
  const std::string whole = TinyLanguage(1).file();
  EXPECT(fault_of(whole).empty(), "%s", fault_of(whole).c_str());
  for (size_t left = 0; left < whole.size(); left += left < 2000 ? 1 : 97)
    EXPECT(!fault_of(whole.substr(0, left)).empty(), "%zu of %zu bytes", left, whole.size());
  EXPECT(fault_of(whole + '\0').find("behind the end") != std::string::npos, "a byte too many");
}

CASE(what_cannot_be_is_refused) {
  const auto fault_with = [](auto change) {
    TinyLanguage tiny(1);
    change(tiny);
    return fault_of(tiny.file());
  };
  EXPECT(!fault_with([](TinyLanguage& tiny) { tiny.counts = {1, 5, 40, 40, 90}; }).empty(), "rising counts");
  EXPECT(!fault_with([](TinyLanguage& tiny) { tiny.labels = {"xa"}; }).empty(), "one label");
  EXPECT(!fault_with([](TinyLanguage& tiny) { tiny.buckets = 100; }).empty(), "buckets beyond the last");
  EXPECT(!fault_with([](TinyLanguage& tiny) { tiny.buckets = 0; }).empty(), "no buckets");
  EXPECT(!fault_with([](TinyLanguage& tiny) { tiny.pruned.begin()->second = 9999; }).empty(), "a place too far");
  EXPECT(!fault_with([](TinyLanguage& tiny) { tiny.norms[3] = NAN; }).empty(), "no number");
  EXPECT(!fault_with([](TinyLanguage& tiny) { tiny.questions[3] = INFINITY; }).empty(), "no finite number");
  EXPECT(!fault_with([](TinyLanguage& tiny) { tiny.shortest = 1; }).empty(), "n-grams of one");
  EXPECT(!fault_with([](TinyLanguage& tiny) { tiny.longest = 1; }).empty(), "longest below shortest");
}

}  // namespace
