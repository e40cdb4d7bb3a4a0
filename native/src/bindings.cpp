// What Python sees. Arrays in, arrays out; the interpreter's lock is released while the engine works.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <sys/mman.h>

#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "ceiling.h"
#include "engine.h"

namespace nb = nanobind;
using namespace nb::literals;
using xlmr::Engine;
using xlmr::Precision;
using xlmr::Shape;

namespace {

template <class T, int N>
using In = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <class T, int N>
using Out = nb::ndarray<nb::numpy, T, nb::ndim<N>, nb::c_contig>;

template <class T>
Out<T, 2> new_matrix(size_t rows, size_t columns) {
  // Large answers are given back to the system. In the allocator's heap they would leave holes as large
  // as the largest batch so far, in the heap of every thread that took one.
  constexpr size_t kLarge = size_t(256) << 10;
  const size_t bytes = rows * columns * sizeof(T);
  if (bytes < kLarge) {
    T* data = new T[std::max<size_t>(1, rows * columns)];
    const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return Out<T, 2>(data, {rows, columns}, owner);
  }
  struct Pages {
    void* data;
    size_t bytes;
    explicit Pages(size_t size)
        : data(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), bytes(size) {
      if (data == MAP_FAILED) throw std::bad_alloc();
    }
    ~Pages() { munmap(data, bytes); }
  };
  auto pages = std::make_unique<Pages>(bytes);
  T* data = static_cast<T*>(pages->data);
  const nb::capsule owner(pages.get(), [](void* p) noexcept { delete static_cast<Pages*>(p); });
  pages.release();
  return Out<T, 2>(data, {rows, columns}, owner);
}

Precision precision_named(const std::string& name) {
  if (name == "int8") return Precision::kInt8;
  if (name == "bf16") return Precision::kBf16;
  if (name == "fp32") return Precision::kFp32;
  throw std::invalid_argument("precision must be int8, bf16 or fp32");
}

const xlmr::Kernels& kernels_named(const std::string& name) {
  const xlmr::Kernels* kernels = xlmr::find_kernels(name.c_str());
  if (kernels == nullptr) throw std::invalid_argument("this processor has no " + name + " instructions");
  return *kernels;
}

void prepare(const std::string& path, const Shape& shape, const std::string& precision, const std::string& digest,
             nb::callable source, nb::object progress) {
  nb::object held;  // the array the engine is reading
  const auto read = [&](const std::string& name, size_t count) {
    nb::gil_scoped_acquire acquire;
    held = source(name);
    const auto array = nb::cast<nb::ndarray<const float, nb::c_contig, nb::device::cpu>>(held);
    if (array.size() != count) throw xlmr::WeightsFault(name + ": wrong number of elements");
    return array.data();
  };
  xlmr::Progress report;
  if (!progress.is_none()) {
    report = [&](uint64_t done, uint64_t total) {
      nb::gil_scoped_acquire acquire;
      progress(done, total);
    };
  }
  const Precision chosen = precision_named(precision);
  // A server goes on answering while it prepares another version.
  nb::gil_scoped_release release;
  xlmr::prepare_weights(path, shape, chosen, digest, read, report);
}

Out<float, 2> run(Engine& engine, In<int32_t, 1> ids, In<int32_t, 1> starts, bool first_rows,
                  std::optional<In<uint8_t, 1>> given_up) {
  const long texts = long(starts.size()) - 1;
  const Shape& shape = engine.shape();
  if (texts < 0 || starts.data()[0] != 0 || starts.data()[texts] != long(ids.size()))
    throw std::invalid_argument("starts must rise from 0 to the number of ids");
  for (long b = 0; b < texts; b++) {
    const long length = long(starts.data()[b + 1]) - starts.data()[b];
    if (length < 1 || length > shape.max_tokens()) throw std::invalid_argument("a text is empty or too long");
  }
  for (size_t i = 0; i < ids.size(); i++)
    if (ids.data()[i] < 0 || ids.data()[i] >= shape.vocabulary)
      throw std::invalid_argument("a token id is outside the vocabulary");
  if (given_up && given_up->size() != 1) throw std::invalid_argument("given_up must be one byte");
  auto out = new_matrix<float>(first_rows ? size_t(texts) : ids.size(), size_t(shape.hidden));
  {
    nb::gil_scoped_release release;
    engine.run(ids.data(), starts.data(), texts, first_rows, out.data(), given_up ? given_up->data() : nullptr);
  }
  return out;
}

// The integer sums of one product by one set of kernels, for tests: activations [rows, depth] times
// the transpose of weights [columns, depth].
Out<int32_t, 2> byte_sums(const std::string& isa, In<int8_t, 2> activations, In<int8_t, 2> weights) {
  const xlmr::Kernels& kernels = kernels_named(isa);
  const long rows = long(activations.shape(0)), depth = long(activations.shape(1)), columns = long(weights.shape(0));
  if (long(weights.shape(1)) != depth) throw std::invalid_argument("depths differ");
  const long padded = xlmr::round_up(depth, xlmr::kPanel), steps = padded / 4;
  const long padded_columns = xlmr::round_up(columns, xlmr::kPanel);
  std::vector<uint8_t> panels(size_t(padded_columns * padded), 128);
  for (long c = 0; c < columns; c++)
    for (long k = 0; k < depth; k++)
      panels[size_t(c / 64 * 64 * padded + (k / 4 * 64 + c % 64) * 4 + k % 4)] =
          uint8_t(int(weights.data()[c * depth + k]) + 128);
  std::vector<int8_t> operand(size_t(rows * padded), 0);
  std::vector<int32_t> correction(size_t(rows), 0), sums(size_t(rows * padded_columns));
  for (long r = 0; r < rows; r++)
    for (long k = 0; k < depth; k++) {
      operand[size_t(r * padded + k)] = activations.data()[r * depth + k];
      correction[size_t(r)] += 128 * activations.data()[r * depth + k];
    }
  const xlmr::Matrix matrix{reinterpret_cast<const uint32_t*>(panels.data()), nullptr, nullptr, padded_columns, steps};
  const xlmr::Operand in{reinterpret_cast<const uint32_t*>(operand.data()), steps, nullptr, correction.data()};
  const xlmr::Product product{in, &matrix, xlmr::Finish::kSums, sums.data(), padded_columns, nullptr, 0};
  kernels.product[int(Precision::kInt8)](product, 0, rows, 0, padded_columns / xlmr::kPanel);
  auto out = new_matrix<int32_t>(size_t(rows), size_t(columns));
  for (long r = 0; r < rows; r++)
    for (long c = 0; c < columns; c++) out.data()[r * columns + c] = sums[size_t(r * padded_columns + c)];
  return out;
}

nb::dict ceiling(int threads, const std::string& isa, double milliseconds) {
  if (threads < 1 || threads > 4096) throw std::invalid_argument("threads must lie in 1..4096");
  const xlmr::Kernels& kernels = kernels_named(isa);
  std::vector<xlmr::Ceiling> found;
  {
    nb::gil_scoped_release release;
    found = xlmr::measure_ceiling(kernels, threads, milliseconds / 1e3);
  }
  nb::dict rates;
  for (const xlmr::Ceiling& one : found) rates[one.kind.c_str()] = one.giga_per_s;
  return rates;
}

nb::list instruction_sets() {
  nb::list names;
  for (const char* name : {"avx512bf16", "avx512vnni", "avx2vnni", "avx2", "neon", "portable"}) {
    try {
      if (xlmr::find_kernels(name) != nullptr) names.append(name);
    } catch (const std::invalid_argument&) {  // another architecture's
    }
  }
  return names;
}

}  // namespace

NB_MODULE(_native, module) {
  module.doc() = "The native CPU engine.";
  nb::exception<xlmr::WeightsFault>(module, "WeightsFault", PyExc_ValueError);
  nb::exception<xlmr::BrokenWeights>(module, "BrokenWeights", PyExc_RuntimeError);
  nb::exception<xlmr::NotFinite>(module, "NotFinite", PyExc_RuntimeError);
  nb::exception<xlmr::ThreadsFault>(module, "ThreadsFault", PyExc_RuntimeError);
  nb::exception<xlmr::Cancelled>(module, "Cancelled", PyExc_RuntimeError);
  nb::class_<Shape>(module, "Shape")
      .def(
          "__init__",
          [](Shape* self, int64_t vocabulary, int64_t hidden, int64_t layers, int64_t heads, int64_t intermediate,
             int64_t position_rows, int64_t pad_id, double norm_epsilon, bool pre_norm) {
            new (self) Shape{vocabulary,    hidden, layers,       heads,        intermediate,
                             position_rows, pad_id, norm_epsilon, int64_t(pre_norm)};
          },
          nb::kw_only(), "vocabulary"_a, "hidden"_a, "layers"_a, "heads"_a, "intermediate"_a, "position_rows"_a,
          "pad_id"_a, "norm_epsilon"_a, "pre_norm"_a);
  nb::class_<Engine>(module, "Engine")
      .def(
          "__init__",
          [](Engine* self, const std::string& path, const Shape& shape, const std::string& precision,
             const std::string& digest, const std::string& isa, int threads) {
            const xlmr::Kernels* kernels = &kernels_named(isa);
            std::unique_ptr<xlmr::Weights> weights;
            {
              nb::gil_scoped_release release;
              weights = std::make_unique<xlmr::Weights>(path, shape, precision_named(precision), digest);
            }
            new (self) Engine(std::move(weights), kernels, threads);
          },
          "path"_a, "shape"_a, "precision"_a, "digest"_a, "isa"_a, "threads"_a)
      .def("run", &run, "ids"_a, "starts"_a, "first_rows"_a, "given_up"_a = nb::none())
      .def("cancel", &Engine::cancel)
      .def_prop_ro("threads", &Engine::threads)
      .def_prop_ro("isa", [](const Engine& engine) { return std::string(engine.kernels().name); });
  module.def("prepare", &prepare, "path"_a, "shape"_a, "precision"_a, "digest"_a, "source"_a,
             "progress"_a.none() = nb::none());
  module.def("byte_sums", &byte_sums, "isa"_a, "activations"_a, "weights"_a);
  module.def("instruction_sets", &instruction_sets);
  module.def("ceiling", &ceiling, "threads"_a, "isa"_a = "auto", "milliseconds"_a = 10.0);
}
