// sample_persistent_{lstm,gru,rnn}_bf16_h{64,128,160}.
#include "sample_persistent.cuh"

SAMPLE_PERSISTENT_ALL(bf16)
