// sample_persistent_{lstm,gru,rnn}_f16_h{64,128,160}.
#include "sample_persistent.cuh"

SAMPLE_PERSISTENT_ALL(f16)
