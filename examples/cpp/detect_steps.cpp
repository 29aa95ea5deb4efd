// A detector's step in C++: frames in, predictions out, the state carried from step to step.
//
//   ssmbook export model.ckpt step.onnx
//   cmake -B build -DOpenVINO_DIR=$(python -c "import openvino; print(openvino.__path__[0])")/cmake examples/cpp
//   cmake --build build && build/detect_steps step.onnx frames.bin predictions.bin
//
// frames.bin: frames of counts one after another, each [channels, height, width] in the type of the exported input.
// predictions.bin: for each frame float32 [anchors, 5 + classes]: cx, cy, w, h in pixels, objectness, classes.
// OpenVINO's headers and libraries come with its Python package: pip install 'ssmbook[openvino]'.
#include <cstring>
#include <fstream>
#include <iostream>
#include <openvino/openvino.hpp>
#include <string>
#include <utility>
#include <vector>

int main(int count, char** arguments) {
    if (count != 4) {
        std::cerr << "usage: detect_steps STEP.onnx FRAMES.bin PREDICTIONS.bin\n";
        return 2;
    }
    ov::Core core;
    auto model = core.compile_model(arguments[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = model.create_infer_request();

    ov::Tensor frame;
    std::vector<std::pair<std::string, ov::Tensor>> states;  // the state before the first frame is zero
    for (const auto& input : model.inputs()) {
        const std::string name = input.get_any_name();
        ov::Tensor tensor(input.get_element_type(), input.get_shape());
        std::memset(tensor.data(), 0, tensor.get_byte_size());
        if (name == "frame") {
            frame = tensor;
        } else if (name == "step_scale") {  // exported with --step-scale input; 1: as far apart as in training
            *tensor.data<float>() = 1.0F;
        } else {
            states.emplace_back(name, tensor);
        }
        request.set_tensor(name, tensor);
    }

    std::ifstream frames(arguments[2], std::ios::binary);
    std::ofstream predictions(arguments[3], std::ios::binary);
    while (frames.read(static_cast<char*>(frame.data()), static_cast<std::streamsize>(frame.get_byte_size()))) {
        request.infer();
        const auto found = request.get_tensor("predictions");
        predictions.write(static_cast<const char*>(found.data()), static_cast<std::streamsize>(found.get_byte_size()));
        for (auto& [name, state] : states) {
            request.get_tensor("new_" + name).copy_to(state);
        }
    }
    return predictions ? 0 : 1;
}
