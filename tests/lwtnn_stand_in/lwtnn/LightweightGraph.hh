// A small stand-in for LWTNN 2.14, for tests on machines without it: the part of its interface that
// examples/cpp/lwtnn_showers.cpp uses, for graphs of dense layers. It is written from the format.
#pragma once
#include <boost/property_tree/json_parser.hpp>
#include <boost/property_tree/ptree.hpp>

#include <algorithm>
#include <cmath>
#include <istream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace lwt {

struct Input {
  std::string name;
  double offset, scale;
};
struct InputNodeConfig {
  std::string name;
  std::vector<Input> variables;
};
struct Layer {
  std::vector<double> weights, bias;
  std::string function;
  double alpha = 0;
};
struct GraphConfig {
  std::vector<InputNodeConfig> inputs;
  std::vector<Layer> layers;
  std::vector<std::string> labels;
};

inline GraphConfig parse_json_graph(std::istream& stream) {
  boost::property_tree::ptree tree;
  read_json(stream, tree);
  const auto list = [](const boost::property_tree::ptree& values) {
    std::vector<double> result;
    for (const auto& entry : values) result.push_back(entry.second.get_value<double>());
    return result;
  };
  GraphConfig config;
  for (const auto& [key, node] : tree.get_child("inputs")) {
    config.inputs.push_back({node.get<std::string>("name"), {}});
    for (const auto& [index, entry] : node.get_child("variables"))
      config.inputs.back().variables.push_back(
          {entry.get<std::string>("name"), entry.get<double>("offset"), entry.get<double>("scale")});
  }
  if (!tree.get_child("input_sequences").empty()) throw std::runtime_error("sequences");
  for (const auto& [key, layer] : tree.get_child("layers")) {
    if (layer.get<std::string>("architecture") != "dense") throw std::runtime_error("not dense");
    const auto& activation = layer.get_child("activation");
    Layer made{list(layer.get_child("weights")), list(layer.get_child("bias")), activation.data()};
    if (activation.data().empty()) {
      made.function = activation.get<std::string>("function");
      made.alpha = activation.get<double>("alpha");
    }
    config.layers.push_back(made);
  }
  for (const auto& [name, output] : tree.get_child("outputs"))
    for (const auto& [key, label] : output.get_child("labels")) config.labels.push_back(label.data());
  return config;
}

class LightweightGraph {
public:
  explicit LightweightGraph(GraphConfig config) : config_(std::move(config)) {}

  std::map<std::string, double>
  compute(const std::map<std::string, std::map<std::string, double>>& values) const {
    std::vector<double> x;
    for (const auto& node : config_.inputs)
      for (const auto& variable : node.variables)
        x.push_back((values.at(node.name).at(variable.name) + variable.offset) * variable.scale);
    for (const auto& layer : config_.layers) {
      std::vector<double> y(layer.bias);
      for (std::size_t i = 0; i < y.size(); ++i) {
        for (std::size_t j = 0; j < x.size(); ++j) y[i] += layer.weights[i * x.size() + j] * x[j];
        y[i] = activated(layer, y[i]);
      }
      x = y;
    }
    std::map<std::string, double> result;
    for (std::size_t i = 0; i < config_.labels.size(); ++i) result[config_.labels[i]] = x.at(i);
    return result;
  }

private:
  static double activated(const Layer& layer, double x) {
    if (layer.function == "linear") return x;
    if (layer.function == "rectified") return std::max(x, 0.0);
    if (layer.function == "sigmoid") return 1 / (1 + std::exp(-x));
    if (layer.function == "tanh") return std::tanh(x);
    if (layer.function == "swish") return x / (1 + std::exp(-layer.alpha * x));
    if (layer.function == "leakyrelu") return x > 0 ? x : layer.alpha * x;
    throw std::runtime_error("no activation " + layer.function);
  }
  GraphConfig config_;
};

}  // namespace lwt
