// Makes showers with LWTNN, from a JSON file of `caloforge export --to lwtnn`.
//
//   lwtnn_showers GENERATOR.json N CONDITION... [--seed S] [--noise IN.f32] [--out OUT.f32]
//
// CONDITION is one number for each condition, in the order and units that the file states (MeV, mm,
// rad) and within the range on which the generator was trained. The program draws the noise, or
// reads it from a file of N x Z 32-bit floats, and writes N x V energies in MeV to OUT.f32. Z is the
// number of the graph's noise variables; for a VAE two more for each number of its transform, which
// is read from GENERATOR_transform.json.
#include "command_line.h"

#define BOOST_BIND_GLOBAL_PLACEHOLDERS  // silences a note of older releases of Boost
#include <lwtnn/LightweightGraph.hh>
#include <lwtnn/lightweight_network_config.hh>
#include <lwtnn/parse_json.hh>

#include <boost/property_tree/json_parser.hpp>
#include <boost/property_tree/ptree.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using boost::property_tree::ptree;
using Values = std::map<std::string, double>;

// A condition of the generator with the range on which it was trained.
struct Condition {
  std::string name;
  double low = 0, high = 0, value = 0;
};

std::vector<double> numbers(const ptree& tree, const std::string& key) {
  std::vector<double> result;
  for (const auto& entry : tree.get_child(key)) result.push_back(entry.second.get_value<double>());
  return result;
}

// All of the file. Refuses one that is not of `caloforge export --to lwtnn`.
ptree read_generator(const std::string& path) {
  ptree content;
  try {
    read_json(path, content);
  } catch (const boost::property_tree::json_parser_error&) {  // no JSON: it has no format either
  }
  if (content.get("miscellaneous.format", std::string()) != "caloforge-lwtnn")
    throw std::runtime_error(path + " is no file of `caloforge export --to lwtnn`");
  return content;
}

// The conditions as the key `miscellaneous` of the file states them. Refuses values outside their
// range, which a network would answer with nonsense.
std::vector<Condition> read_conditions(const ptree& about, const std::vector<double>& values) {
  std::istringstream text(about.get<std::string>("conditions"));
  ptree list;
  read_json(text, list);
  if (list.size() != values.size())
    throw std::runtime_error("the generator asks for " + std::to_string(list.size()) +
                             " conditions: " + about.get<std::string>("conditions"));
  std::vector<Condition> conditions;
  for (const auto& [key, entry] : list) {
    const Condition condition{entry.get<std::string>("name"), entry.get<double>("low"),
                              entry.get<double>("high"), values[conditions.size()]};
    const double slack = 1e-6 * (std::abs(condition.low) + std::abs(condition.high));
    if (!(condition.value >= condition.low - slack && condition.value <= condition.high + slack))
      throw std::runtime_error("got " + condition.name + " = " + std::to_string(condition.value) +
                               "; the generator was trained on " + std::to_string(condition.low) +
                               " to " + std::to_string(condition.high));
    conditions.push_back(condition);
  }
  return conditions;
}

bool ends_with(const std::string& word, const std::string& end) {
  return word.size() >= end.size() && word.compare(word.size() - end.size(), end.size(), end) == 0;
}

// The value of an input variable, from its name: log_X, sin_X, cos_X, X_is_3 or X itself.
double variable(const std::string& name, const std::vector<Condition>& conditions) {
  for (const auto& [condition, low, high, value] : conditions) {
    if (name == condition) return value;
    if (name == "log_" + condition) return std::log(value);
    if (name == "sin_" + condition) return std::sin(value);
    if (name == "cos_" + condition) return std::cos(value);
    if (name.rfind(condition + "_is_", 0) == 0)
      return std::abs(value - std::stod(name.substr(condition.size() + 4))) < 0.5 ? 1 : 0;
  }
  throw std::runtime_error("the file asks for " + name + ", which no condition gives");
}

// Incident energy in MeV: the condition `energy`, or the length of the momentum.
double incident_energy(const std::vector<Condition>& conditions) {
  double square = 0;
  for (const auto& condition : conditions) {
    if (condition.name == "energy") return condition.value;
    if (ends_with(condition.name, "px") || ends_with(condition.name, "py") ||
        ends_with(condition.name, "pz"))
      square += condition.value * condition.value;
  }
  if (square == 0) throw std::runtime_error("the conditions hold no energy");
  return std::sqrt(square);
}

// From the likelihood of the numbers of a VAE's transform to MeV: the steps of docs/deployment.md.
class Transform {
public:
  explicit Transform(const std::string& path) {
    ptree file;
    read_json(path, file);
    if (file.get<std::string>("format") != "caloforge-transform" || file.get<int>("schema") != 1)
      throw std::runtime_error(path + " is no transform of this version of CaloForge");
    empty_ = file.get<double>("empty");
    largest_ = file.get<double>("largest");
    layers_ = file.get<std::size_t>("layers");
    hurdle_ = file.get<bool>("hurdle");
    draw_ = file.get<bool>("draw");
    width_ = numbers(file, "log_width");
    logistic_ = numbers(file, "logistic");
    knots_ = numbers(file, "knots");
    response_ = numbers(file, "mean_response");
    variance_ = numbers(file, "variance");
    mean_ = numbers(file, "mean");
    std_ = numbers(file, "std");
    layer_ = numbers(file, "layer");
  }

  // How many normals a shower needs besides the latent ones.
  std::size_t noise() const { return draw_ ? mean_.size() * (hurdle_ ? 2 : 1) : 0; }

  // Energies of the cells in MeV; `normals` points to `noise()` numbers.
  std::vector<double> energies(const Values& outputs, double energy, const double* normals) const {
    const std::size_t size = mean_.size(), cells = layer_.size();
    std::vector<double> raw(size);
    for (std::size_t k = 0; k < size; ++k) {
      const std::string number = std::to_string(k);
      double x = outputs.at("mean_" + number);
      const double log_width = std::clamp(outputs.at("log_width_" + number), width_[0], width_[1]);
      if (draw_) x += std::exp(log_width) * normals[k];
      raw[k] = x * std_[k] + mean_[k];
      if (hurdle_) {
        const double v = draw_ ? normals[size + k] : 0;
        const double odds = outputs.at("log_odds_" + number);
        if (odds + logistic_[0] * v + logistic_[1] * v * v * v <= 0) raw[k] = empty_;
      }
    }
    const double sigma = std::max(
        1e-4, std::sqrt(variance_[0] + variance_[1] / energy + variance_[2] / (energy * energy)));
    const double total = std::max(0.0, response(std::log(energy)) + raw[0] * sigma) * energy;
    // Energies in units of the floor, which falls out: only their ratios are used.
    const auto filled = [&](double log) {
      return log > 0.5 * empty_ ? std::exp(std::clamp(log, 0.0, largest_)) : 0.0;
    };
    std::vector<double> result(cells), of_layer(layers_), in_cells(layers_);
    for (std::size_t k = 0; k < cells; ++k) {
      result[k] = filled(raw[1 + layers_ + k]);
      in_cells[static_cast<std::size_t>(layer_[k])] += result[k];
    }
    double sum = 0;
    for (std::size_t l = 0; l < layers_; ++l) {
      of_layer[l] = in_cells[l] > 0 ? filled(raw[1 + l]) : 0;
      sum += of_layer[l];
    }
    for (std::size_t k = 0; k < cells; ++k) {
      const auto l = static_cast<std::size_t>(layer_[k]);
      result[k] *= of_layer[l] * (total / std::max(sum, 1e-12)) / std::max(in_cells[l], 1e-12);
    }
    return result;
  }

private:
  // Mean response at a logarithm of the energy: linear between the knots, constant beyond them.
  double response(double log_energy) const {
    std::size_t right = 1;
    while (right + 1 < knots_.size() && log_energy > knots_[right]) ++right;
    const double way = (log_energy - knots_[right - 1]) / (knots_[right] - knots_[right - 1]);
    return response_[right - 1] +
           std::clamp(way, 0.0, 1.0) * (response_[right] - response_[right - 1]);
  }

  double empty_ = 0, largest_ = 0;
  std::size_t layers_ = 0;
  bool hurdle_ = false, draw_ = false;
  std::vector<double> width_, logistic_, knots_, response_, variance_, mean_, std_, layer_;
};

// `size` normals: drawn, or read from a file of 32-bit floats.
std::vector<double> noise_of(const Arguments& arguments, std::size_t size) {
  if (!arguments.noise.empty()) {
    const std::vector<float> read = read_noise(arguments.noise, size);
    return {read.begin(), read.end()};
  }
  std::mt19937_64 engine(arguments.seed);
  std::normal_distribution<double> normal;
  std::vector<double> noise(size);
  for (double& z : noise) z = normal(engine);
  return noise;
}

int run(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv, "lwtnn_showers GENERATOR.json");
  std::ifstream file(arguments.model);
  if (!file) throw std::runtime_error("cannot read " + arguments.model);
  const ptree content = read_generator(arguments.model);
  const lwt::GraphConfig config = lwt::parse_json_graph(file);
  const lwt::LightweightGraph graph(config);
  const ptree& about = content.get_child("miscellaneous");
  const auto conditions = read_conditions(about, arguments.condition);
  const double energy = incident_energy(conditions);

  // The values of the variables; the offsets and scales of the file turn them into the inputs with
  // which the network was trained.
  std::map<std::string, Values> inputs;
  std::vector<std::string> latent;
  for (const auto& input : config.inputs)
    for (const auto& entry : input.variables) {
      if (input.name == "noise") latent.push_back(entry.name);
      else inputs[input.name][entry.name] = variable(entry.name, conditions);
    }
  std::optional<Transform> transform;
  if (content.get_child("outputs").count("energies") == 0)
    transform.emplace(arguments.model.substr(0, arguments.model.rfind(".json")) + "_transform.json");
  const std::size_t needed = latent.size() + (transform ? transform->noise() : 0);
  const auto count = static_cast<std::size_t>(arguments.count);
  const auto noise = noise_of(arguments, count * needed);

  std::vector<float> showers;
  double total = 0;
  for (std::size_t k = 0; k < count; ++k) {
    const double* normals = noise.data() + k * needed;
    for (std::size_t i = 0; i < latent.size(); ++i) inputs["noise"][latent[i]] = normals[i];
    const Values outputs = graph.compute(inputs);
    std::vector<double> energies(outputs.size());
    if (transform) energies = transform->energies(outputs, energy, normals + latent.size());
    else  // label "0", "1", ...: share of the incident energy
      for (std::size_t i = 0; i < energies.size(); ++i)
        energies[i] = energy * outputs.at(std::to_string(i));
    for (const double mev : energies) total += mev;
    showers.insert(showers.end(), energies.begin(), energies.end());
  }
  std::cout << about.get<std::string>("model") << ", geometry "
            << about.get<std::string>("geometry_hash") << ": " << count << " showers of "
            << showers.size() / count << " cells, " << total / static_cast<double>(count)
            << " MeV on average\n";
  if (!arguments.out.empty()) write_showers(arguments.out, showers);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "lwtnn_showers: " << error.what() << "\n";
    return 2;
  }
}
