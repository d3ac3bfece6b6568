// Makes showers with ONNX Runtime, from an ONNX file of `caloforge export --to onnx`.
//
//   onnx_showers GENERATOR.onnx N CONDITION... [--seed S] [--noise IN.f32] [--out OUT.f32]
//
// CONDITION is one number for each condition, in the order and units that the file states (MeV, mm,
// rad) and within the range that the file states. The program draws the noise, or reads it from a
// file of N x Z 32-bit floats, so that the showers can be compared with those of Python. It writes
// N x V energies in MeV to OUT.f32.
#include "command_line.h"

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// A generator. Its file holds everything that it needs to know.
class Generator {
public:
  explicit Generator(const std::string& path)
      : environment_(ORT_LOGGING_LEVEL_WARNING, "caloforge"), session_(nullptr) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(1);  // one shower is too small to be shared out over threads
    session_ = Ort::Session(environment_, path.c_str(), options);
    if (metadata("format") != "caloforge-generator")
      throw std::runtime_error(path + " is no file of `caloforge export --to onnx`");
  }

  // The number of columns of input `index` (0: noise, 1: condition).
  std::int64_t width(std::size_t index) const {
    return session_.GetInputTypeInfo(index).GetTensorTypeAndShapeInfo().GetShape().at(1);
  }

  // The value of a key of the metadata, or "" where the file lacks it.
  std::string metadata(const char* key) {
    const auto value = session_.GetModelMetadata().LookupCustomMetadataMapAllocated(key, allocator_);
    return value ? value.get() : "";
  }

  // Returns energies in MeV, N x V, for noise N x Z and conditions N x C, all row by row.
  std::vector<float> generate(std::vector<float>& noise, std::vector<float>& condition) {
    const std::array<const char*, 2> inputs{"noise", "condition"};
    const std::array<const char*, 1> outputs{"energies"};
    const auto count = static_cast<std::int64_t>(condition.size()) / width(1);
    const std::array<std::int64_t, 2> shape_noise{count, width(0)}, shape_condition{count, width(1)};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::array<Ort::Value, 2> values{
        Ort::Value::CreateTensor<float>(memory, noise.data(), noise.size(), shape_noise.data(), 2),
        Ort::Value::CreateTensor<float>(memory, condition.data(), condition.size(),
                                        shape_condition.data(), 2)};
    auto results = session_.Run(Ort::RunOptions{nullptr}, inputs.data(), values.data(), values.size(),
                                outputs.data(), outputs.size());
    const auto size = results[0].GetTensorTypeAndShapeInfo().GetElementCount();
    const float* energies = results[0].GetTensorData<float>();
    return {energies, energies + size};
  }

private:
  Ort::Env environment_;
  Ort::Session session_;
  Ort::AllocatorWithDefaultOptions allocator_;
};

// A condition of the generator with the range on which it was trained.
struct Condition {
  std::string name;
  double low = 0, high = 0;
};

// What follows `"key": ` in a flat JSON object, up to the next comma or brace, without quotes.
std::string value_of(const std::string& object, const std::string& key) {
  const std::string mark = "\"" + key + "\": ";
  const auto at = object.find(mark);
  if (at == std::string::npos) throw std::runtime_error("the file states no " + key + " of a condition");
  const auto start = at + mark.size();
  std::string value = object.substr(start, object.find_first_of(",}", start) - start);
  if (value.front() == '"') value = value.substr(1, value.size() - 2);
  return value;
}

// The metadata "conditions", a JSON list of flat objects: one for each condition, in order.
std::vector<Condition> read_conditions(const std::string& text) {
  std::vector<Condition> conditions;
  for (std::size_t start = text.find('{'); start != std::string::npos; start = text.find('{', start + 1)) {
    const std::string object = text.substr(start, text.find('}', start) - start + 1);
    conditions.push_back({value_of(object, "name"), std::stod(value_of(object, "low")),
                          std::stod(value_of(object, "high"))});
  }
  return conditions;
}

// Refuses a condition outside the trained range, which a network would answer with nonsense.
void check(double value, const Condition& condition) {
  // The range is written with more digits than a 32-bit float has.
  const double slack = 1e-6 * (std::abs(condition.low) + std::abs(condition.high));
  if (!(value >= condition.low - slack && value <= condition.high + slack))
    throw std::runtime_error("got " + condition.name + " = " + std::to_string(value) +
                             "; the generator was trained on " + std::to_string(condition.low) +
                             " to " + std::to_string(condition.high));
}

std::vector<float> draw_noise(std::uint64_t seed, std::size_t size) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> noise(size);
  for (float& z : noise) z = normal(engine);
  return noise;
}

int run(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv, "onnx_showers GENERATOR.onnx");
  Generator generator(arguments.model);
  const auto rows = static_cast<std::size_t>(arguments.count);
  const auto n_noise = static_cast<std::size_t>(generator.width(0));
  const auto n_condition = static_cast<std::size_t>(generator.width(1));
  if (arguments.condition.size() != n_condition)
    throw std::runtime_error("the generator asks for " + std::to_string(n_condition) +
                             " conditions: " + generator.metadata("conditions"));
  const std::vector<Condition> conditions = read_conditions(generator.metadata("conditions"));
  for (std::size_t k = 0; k < n_condition; ++k) check(arguments.condition[k], conditions.at(k));
  auto noise = arguments.noise.empty() ? draw_noise(arguments.seed, rows * n_noise)
                                       : read_noise(arguments.noise, rows * n_noise);
  std::vector<float> condition;
  for (std::size_t k = 0; k < rows; ++k)
    condition.insert(condition.end(), arguments.condition.begin(), arguments.condition.end());

  const std::vector<float> energies = generator.generate(noise, condition);
  double total = 0;
  for (const float energy : energies) total += energy;
  std::cout << generator.metadata("model") << ", geometry " << generator.metadata("geometry_hash")
            << ": " << rows << " showers of " << energies.size() / rows << " cells, "
            << total / static_cast<double>(rows) << " MeV on average\n";
  if (!arguments.out.empty()) write_showers(arguments.out, energies);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "onnx_showers: " << error.what() << "\n";
    return 2;
  }
}
