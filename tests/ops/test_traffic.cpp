// The bytes and operations of each op, counted by hand.
#include <variant>

#include "backend/traffic.h"
#include "catch.h"
#include "fixture.h"

using namespace bolide;
using namespace bolide::ops_test;

namespace {

// D 8, H 2, Hkv 1, Dh 4, F 6, V 10; bf16 weights, a bf16 cache, float32 activations.
struct Model {
  std::unique_ptr<Backend> backend = cpu_with_threads(1);
  Random random{1};
  TestMatrix embed{*backend, random, 10, 8, DType::bf16}, qkv{*backend, random, 16, 8, DType::bf16}, o{*backend, random, 8, 8, DType::bf16},
      gate_up{*backend, random, 12, 8, DType::f32};
  std::unique_ptr<KvCache> kv = backend->alloc_kv({1, 1, 4, 16, 4, DType::bf16});
  float some = 0;  // stands for a vector that is present

  AttentionArgs attention(int32_t window) const {
    AttentionArgs args{};
    args.kv = kv.get();
    args.window = window;
    args.heads = 2;
    args.kv_heads = 1;
    args.head_dim = 4;
    return args;
  }
};

// Three rows of a sequence that has seven tokens afterwards, and one of another with four.
StepShape shape() { return {2, {{3, 7}, {1, 4}}}; }

}  // namespace

TEST_CASE("embed reads a row of the table per token") {
  const Model m;
  EmbedArgs args{};
  args.table = m.embed.matrix.get();
  args.hidden = 8;
  args.head_dim = 4;
  const OpTraffic t = op_traffic(args, shape());
  CHECK(t.weight_bytes == 4 * 8 * 2 + 2 * 4);  // and the inverse frequencies
  CHECK(t.kv_bytes == 0);
  CHECK(t.activation_bytes == 4 * (8 + 4) * 4);
}

TEST_CASE("products read their matrix once, whatever the rows") {
  const Model m;
  NormQkvArgs qkv{};
  qkv.qkv = m.qkv.matrix.get();
  qkv.kv = m.kv.get();
  qkv.hidden = 8;
  qkv.heads = 2;
  qkv.kv_heads = 1;
  qkv.head_dim = 4;
  OpTraffic t = op_traffic(qkv, shape());
  CHECK(t.weight_bytes == 16 * 8 * 2 + 8 * 4);
  CHECK(t.kv_bytes == 4 * 2 * 4 * 2);
  CHECK(t.activation_bytes == 4 * (8 * 4 + 4 * 4 + 2 * 4 * 4));
  CHECK(t.operations == 2 * 4 * 16 * 8);
  qkv.bias = qkv.q_norm = qkv.k_norm = &m.some;
  CHECK(op_traffic(qkv, shape()).weight_bytes == t.weight_bytes + 4 * (16 + 4 + 4));

  ProjectAddArgs o{};
  o.weight = m.o.matrix.get();
  t = op_traffic(o, shape());
  CHECK(t.weight_bytes == 8 * 8 * 2);
  CHECK(t.activation_bytes == 4 * (8 * 4 + 2 * 8 * 4));
  o.h.dtype = DType::bf16;
  CHECK(op_traffic(o, shape()).activation_bytes == 4 * (8 * 2 + 2 * 8 * 4));

  NormGateUpArgs gate_up{};
  gate_up.gate_up = m.gate_up.matrix.get();
  gate_up.hidden = 8;
  gate_up.mlp = 6;
  t = op_traffic(gate_up, shape());
  CHECK(t.weight_bytes == 12 * 8 * 4 + 8 * 4);
  CHECK(t.activation_bytes == 4 * (8 * 4 + 6 * 4));
  CHECK(t.operations == 2 * 4 * 12 * 8);
}

TEST_CASE("attention reads the keys that any of a sequence's rows sees") {
  const Model m;
  const double row = 2 * 4 * 2;  // K and V of a token, bf16
  OpTraffic t = op_traffic(m.attention(0), shape());
  CHECK(t.kv_bytes == (7 + 4) * row);
  CHECK(t.activation_bytes == 4 * 8 * (4 + 4));
  CHECK(t.operations == 4 * (5 + 6 + 7 + 4) * 8);
  // With a window of three, rows at positions 4, 5, 6 see positions 2 to 6; the other sequence's row sees three of four.
  t = op_traffic(m.attention(3), shape());
  CHECK(t.kv_bytes == (5 + 3) * row);
  CHECK(t.operations == 4 * (3 + 3 + 3 + 3) * 8);
  CHECK(op_traffic(m.attention(100), shape()).kv_bytes == (7 + 4) * row);
}

TEST_CASE("logits and sample count their own rows, and nothing when there are none") {
  const Model m;
  LogitsArgs logits{};
  logits.head = m.embed.matrix.get();
  logits.hidden = 8;
  logits.vocab = 10;
  const OpTraffic t = op_traffic(logits, shape());
  CHECK(t.weight_bytes == 10 * 8 * 2 + 8 * 4);
  CHECK(t.activation_bytes == 2 * (8 + 10) * 4);
  CHECK(t.operations == 2 * 2 * 10 * 8);
  SampleArgs sample{};
  sample.vocab = 10;
  CHECK(op_traffic(sample, shape()).activation_bytes == 2 * (10 * 4 + sizeof(SampledToken)));
  StepShape silent = shape();
  silent.logit_rows = 0;
  CHECK(op_traffic(logits, silent).bytes() == 0);
  CHECK(op_traffic(sample, silent).bytes() == 0);
}

TEST_CASE("ops are named as their files") {
  CHECK(op_name(EmbedArgs{}) == "embed");
  CHECK(op_name(NormQkvArgs{}) == "norm_qkv");
  CHECK(op_name(AttentionArgs{}) == "attention");
  CHECK(op_name(ProjectAddArgs{}) == "project_add");
  CHECK(op_name(NormGateUpArgs{}) == "norm_gate_up");
  CHECK(op_name(LogitsArgs{}) == "logits");
  CHECK(op_name(SampleArgs{}) == "sample");
}
