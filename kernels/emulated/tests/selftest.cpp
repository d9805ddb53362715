// The emulator's own test: right kernels pass in every mode and for many seeds, faulty ones are refused in the words
// expected or give a wrong result within five seeds. Run by scripts/emulated-selftest.sh.
//
//     selftest LIBRARY              the plain or the sanitized build
//     selftest LIBRARY race         the race-check build
//     selftest LIBRARY KERNEL N     one launch of 64 threads, for a report that ends the process
#include <dlfcn.h>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>
#include "params.h"

namespace {

int (*launch_c)(const char*, const unsigned*, unsigned, unsigned, size_t, const void*, size_t, uint64_t, int, char*, size_t);
long (*races)() = nullptr;
size_t (*race_report)(char*, size_t) = nullptr;
int failures = 0, checks = 0;

struct Shape { unsigned blocks, threads, cluster; size_t shared; };
const Shape kWarp{1, 32, 1, 4096}, kBlock{1, 64, 1, 4096}, kWide{1, 128, 1, 4096}, kPair{2, 32, 2, 4096};

struct Result { std::string error; uint32_t wrong; };

Result run(const char* kernel, Shape s, uint64_t seed, int mode, const std::vector<uint32_t>& in,
           std::vector<uint32_t>& out, int n) {
  unsigned grid[3] = {s.blocks, 1, 1};
  char error[1000] = "";
  TestParams p{in.data(), out.data(), n, 0};
  out[0] = 0;
  int code = launch_c(kernel, grid, s.threads, s.cluster, s.shared, &p, sizeof p, seed, mode, error, sizeof error);
  if ((code != 0) != (error[0] != 0)) return {"the exit code and the message disagree", 0};
  return {error, out[0]};
}

std::vector<uint32_t> counting(size_t n) {
  std::vector<uint32_t> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = uint32_t(i);
  return v;
}
const std::vector<uint32_t> kIn = counting(4096);

void check(bool good, const std::string& what) {
  ++checks;
  if (good) return;
  ++failures;
  fprintf(stderr, "FAILED: %s\n", what.c_str());
}

void right(const char* kernel, Shape s, int n, uint64_t seeds = 5) {
  std::vector<uint32_t> out(4096);
  for (int mode = 0; mode < 3; ++mode)
    for (uint64_t seed = 1; seed <= (mode == 2 ? 1 : seeds); ++seed) {
      Result r = run(kernel, s, seed, mode, kIn, out, n);
      check(r.error.empty() && r.wrong == 0, std::string(kernel) + " mode " + std::to_string(mode) + " seed " +
                                                 std::to_string(seed) + ": " + r.error + ", wrong " + std::to_string(r.wrong));
    }
}

// Every seed is refused with each of the words; `some`: at least one of five seeds.
void refused(const char* kernel, Shape s, std::vector<const char*> words, bool some = false) {
  std::vector<uint32_t> out(4096);
  int found = 0;
  std::string last;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Result r = run(kernel, s, seed, 0, kIn, out, 0);
    bool all = true;
    for (const char* w : words) all = all && r.error.find(w) != std::string::npos;
    found += all;
    if (!all) last = r.error;
  }
  check(some ? found > 0 : found == 5, std::string(kernel) + ": refused as expected for " + std::to_string(found) +
                                           " of 5 seeds; else: " + last);
}

void shows(const char* kernel, Shape s) {
  std::vector<uint32_t> out(4096);
  bool seen = false;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Result r = run(kernel, s, seed, 0, kIn, out, 0);
    check(r.error.empty(), std::string(kernel) + ": " + r.error);
    seen = seen || r.wrong != 0;
  }
  check(seen, std::string(kernel) + ": no wrong result in five seeds");
}

// --- arithmetic ----------------------------------------------------------------------------------------------------
float from_bits(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
uint32_t to_bits(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }

std::vector<uint32_t> mapped(const char* kernel, const std::vector<uint32_t>& in) {
  std::vector<uint32_t> out(in.size() + 1);
  Result r = run(kernel, {1, 256, 1, 0}, 1, 2, in, out, int(in.size()));
  check(r.error.empty(), std::string(kernel) + ": " + r.error);
  return out;
}

// A short format's value, from its definition.
double short_value(uint32_t bits, int exponent_bits, int mantissa_bits) {
  int bias = (1 << (exponent_bits - 1)) - 1, exponent = int(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  int mantissa = int(bits & ((1u << mantissa_bits) - 1));
  double sign = (bits & 0x8000u) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1)
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

// All 65536 patterns widen exactly and come back; between two neighbours the nearer one is taken, at the middle the even.
void conversions(const char* widen, const char* narrow, int exponent_bits, int mantissa_bits) {
  std::vector<uint32_t> patterns = counting(65536), wide = mapped(widen, patterns);
  wide.resize(65536);
  std::vector<uint32_t> back = mapped(narrow, wide);
  int wrong = 0;
  for (uint32_t i = 0; i < 65536; ++i) {
    double v = short_value(i, exponent_bits, mantissa_bits);
    if (std::isnan(v)) {
      wrong += !std::isnan(from_bits(wide[i])) || !std::isnan(short_value(back[i], exponent_bits, mantissa_bits));
      continue;
    }
    wrong += double(from_bits(wide[i])) != v || std::signbit(from_bits(wide[i])) != ((i & 0x8000u) != 0) || back[i] != i;
  }
  check(wrong == 0, std::string(widen) + ": " + std::to_string(wrong) + " patterns are wrong");
  // Around the middle of neighbours. Above the largest finite value comes infinity, as if the exponent went on.
  std::vector<uint32_t> between, expected;
  uint32_t infinity = ((1u << exponent_bits) - 1) << mantissa_bits;
  for (uint32_t i = 0; i < infinity; ++i) {
    double a = short_value(i, exponent_bits, mantissa_bits), b = short_value(i + 1, exponent_bits, mantissa_bits);
    if (i + 1 == infinity) b = a + (a - short_value(i - 1, exponent_bits, mantissa_bits));
    double middle = (a + b) / 2;
    float m = float(middle);
    if (double(m) != middle) { check(false, "a middle is no float"); return; }
    uint32_t even = (i & 1u) == 0 ? i : i + 1;
    between.insert(between.end(), {to_bits(std::nextafter(m, 0.0f)), to_bits(m), to_bits(std::nextafter(m, INFINITY))});
    expected.insert(expected.end(), {i, even, i + 1});
  }
  std::vector<uint32_t> rounded = mapped(narrow, between);
  wrong = 0;
  for (size_t i = 0; i < between.size(); ++i) wrong += rounded[i] != expected[i];
  check(wrong == 0, std::string(narrow) + ": " + std::to_string(wrong) + " middles are rounded wrongly");
}

void activations(const char* kernel, double (*reference)(double), double limit, bool relative, float low, float high) {
  std::vector<uint32_t> in;
  // Evenly from low to high, and by powers down to the least numbers; the specials at the end.
  for (int i = 0; i <= 400000; ++i) in.push_back(to_bits(low + (high - low) * float(i) / 400000.0f));
  for (float x = 1; x > 1e-37f; x *= 0.9937f) {
    in.push_back(to_bits(x));
    in.push_back(to_bits(-x));
  }
  size_t ordinary = in.size();
  for (float x : {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e30f, -1e30f, 1e-42f, -1e-42f}) in.push_back(to_bits(x));
  std::vector<uint32_t> out = mapped(kernel, in);
  double worst = 0;
  float at = 0;
  for (size_t i = 0; i < ordinary; ++i) {
    float x = from_bits(in[i]);
    double y = reference(x), error = std::fabs(double(from_bits(out[i])) - y) / (relative && y != 0 ? std::fabs(y) : 1);
    if (!(error <= worst)) { worst = error; at = x; }
  }
  printf("%s: largest %s error %.3g at %.9g\n", kernel, relative ? "relative" : "absolute", worst, double(at));
  check(worst <= limit, std::string(kernel) + ": error " + std::to_string(worst) + " at " + std::to_string(at));
  for (size_t i = ordinary; i < in.size(); ++i) {
    float x = from_bits(in[i]), y = from_bits(out[i]);
    bool good = std::isnan(x) ? std::isnan(y) : std::fabs(double(y) - reference(x)) <= (relative ? 1.7e-38 : limit);
    check(good, std::string(kernel) + "(" + std::to_string(x) + ") = " + std::to_string(y));
  }
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double hyperbolic(double x) { return std::tanh(x); }

void arithmetic() {
  conversions("widen_bf16", "narrow_bf16", 8, 7);
  conversions("widen_f16", "narrow_f16", 5, 10);
  activations("map_tanh_exact", hyperbolic, 5e-7, true, -12, 12);
  activations("map_sigmoid_exact", sigmoid, 5e-7, true, -87, 87);
  activations("map_tanh_fast", hyperbolic, 5e-4, false, -12, 12);
  activations("map_sigmoid_fast", sigmoid, 3e-4, false, -20, 20);
}

// --- what is wrong with a launch -----------------------------------------------------------------------------------
void launches() {
  std::vector<uint32_t> out(4096);
  auto message = [&](const char* kernel, Shape s) { return run(kernel, s, 1, 0, kIn, out, 0).error; };
  auto says = [&](const std::string& text, const char* word) {
    check(text.find(word) != std::string::npos, "a launch says '" + text + "', not '" + word + "'");
  };
  says(message("no_such_kernel", kBlock), "no such kernel");
  says(message("right_neighbours", {1, 256, 1, 4096}), "compiled for 128");
  says(message("right_neighbours", {3, 128, 2, 4096}), "cluster");
  says(message("right_neighbours", {1, 128, 1, 233000}), "227 KiB");
  says(message("right_neighbours", {0, 128, 1, 0}), "empty grid");
  unsigned grid[3] = {1, 1, 1};
  char error[20] = "";
  check(launch_c("op_warp", grid, 32, 1, 0, kIn.data(), 4, 1, 0, error, sizeof error) == 1 && strlen(error) == 19,
        "a launch takes parameters of a wrong size, or a message runs over its buffer");
}

// Index order shows the missing barrier as surely as the default; what matters is that five seeds of the default do.
void faults() {
  refused("fault_exit_before_barrier", kBlock, {"deadlock", "1 exited", "__syncthreads", "faults.cu:", "block 0"});
  refused("fault_different_barriers", kBlock, {"different barriers", "__syncthreads", "faults.cu:"});
  refused("fault_divergent_shuffle", kBlock, {"diverged warp", "__shfl_xor_sync", "thread", "fault_divergent_shuffle:"});
  refused("fault_lanes_missing", kBlock, {"exited"}, true);
  refused("fault_shuffle_outside_mask", kBlock, {"outside the mask"});
  refused("fault_named_barrier_short", kBlock, {"deadlock", "named_barrier"});
  refused("fault_ldmatrix_misaligned", kWarp, {"ldmatrix", "aligned"});
  refused("fault_copy_misaligned", kWarp, {"cp.async", "aligned"});
  refused("fault_mbarrier_never_completes", kWarp, {"deadlock", "mbar_wait", "32 at an mbarrier"});
  refused("fault_mbarrier_not_initialised", kWarp, {"before mbar_init"});
  refused("fault_too_much_static", kWarp, {"48 KiB"});
  refused("fault_cluster_wait_missing", kPair, {"between cluster_arrive and cluster_wait"});
  refused("fault_no_cluster_start", kPair, {"has not started"}, true);
  refused("fault_no_cluster_end", kPair, {"has exited"}, true);
  refused("fault_rank_out_of_range", kPair, {"rank 2 in a cluster of 2"});
  refused("fault_push_to_exited", kPair, {"has exited"}, true);
  shows("fault_no_barrier_before_read", kWide);
  shows("fault_no_barrier_before_write", kWide);
  shows("fault_no_syncwarp", kBlock);
  shows("fault_copy_wait_too_lax", kBlock);
  shows("fault_shared_not_initialised", kBlock);
}

void rights() {
  right("op_ldmatrix", kBlock, 0);
  right("op_mma_bf16", kBlock, 0);
  right("op_mma_f16", kBlock, 0);
  right("op_warp", kBlock, 0);
  right("op_block", kWide, 0);
  for (int n : {0, 1, 2, 3, 7}) right("op_cp_async", {2, 64, 1, 4096}, n);
  for (unsigned size : {1u, 2u, 5u, 16u}) {
    right("op_cluster", {size * 2, 64, size, 32768}, 0, size > 4 ? 2 : 5);
    right("op_st_async", {size * 2, 64, size, 32768}, 0, size > 4 ? 2 : 5);
  }
  right("right_neighbours", kWide, 0);
  right("right_syncwarp", kBlock, 0);
  right("right_copy_wait", kBlock, 0);
}

void race_checks() {
  rights();
  char text[4000] = "";
  long n = races();
  race_report(text, sizeof text);
  check(n == 0, "races in right kernels:\n" + std::string(text));
  std::vector<uint32_t> out(4096);
  for (const char* kernel : {"fault_no_barrier_before_read", "fault_no_barrier_before_write", "fault_no_syncwarp"}) {
    for (int mode = 0; mode < 3; ++mode) {                 // whatever the order of the threads
      Shape s = strcmp(kernel, "fault_no_syncwarp") == 0 ? kBlock : kWide;
      run(kernel, s, 1, mode, kIn, out, 0);
      n = races();
      size_t length = race_report(text, sizeof text);
      check(n > 0 && length > 0 && strstr(text, kernel) != nullptr, std::string(kernel) + ": the race is not found");
    }
  }
  check(races() == 0 && race_report(text, sizeof text) == 0, "the counters do not start anew");
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return 2;
  void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fprintf(stderr, "%s\n", dlerror());
    return 2;
  }
  launch_c = reinterpret_cast<decltype(launch_c)>(dlsym(library, "songrnn_emulated_launch"));
  races = reinterpret_cast<decltype(races)>(dlsym(library, "songrnn_emulated_races"));
  race_report = reinterpret_cast<decltype(race_report)>(dlsym(library, "songrnn_emulated_race_report"));
  if (count == 4) {
    std::vector<uint32_t> out(64), in(64);
    Result r = run(arguments[2], {1, 64, 1, 256}, 1, 0, in, out, atoi(arguments[3]));
    printf("%s: %s\n", arguments[2], r.error.empty() ? "done" : r.error.c_str());
    return 0;
  }
  auto start = std::chrono::steady_clock::now();
  if (count == 3) {
    race_checks();
  } else {
    launches();
    rights();
    faults();
    arithmetic();
  }
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  printf("%d checks, %d failed, %.2f s\n", checks, failures, seconds.count());
  return failures != 0;
}
