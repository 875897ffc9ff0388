"""Pieces of the C code of a network: `$p` is the prefix of names, and `$P` the prefix of macros."""

from __future__ import annotations

from string import Template


HEADER = Template("""\
/* A multi-layer perceptron, $architecture, activation $activation, $precision.
 *
 * Written by nnit-diffusers. C99 or C++, no allocation$libraries.
 *
 * Include this file wherever the network is called. In one source file of the program, define
 * ${P}_IMPLEMENTATION first, so that the weights are in flash once:
 *
 *     #define ${P}_IMPLEMENTATION
 *     #include "policy.h"  (this file)
 *
 *     float outputs[${P}_NUM_OUTPUTS];
 *     ${p}_forward(observations, outputs);
 *
 * Observations are raw: their normalisation is part of the weights.$clipping
 * A value that is NaN or infinite reaches the outputs. -ffast-math would break that.
 *
 * Buffers are on the stack, so calls from several threads do not disturb each other. To place them in
 * static memory instead, define ${P}_BUFFER as static beside ${P}_IMPLEMENTATION.
 */
#ifndef ${P}_H
#define ${P}_H

/* Numbers of floats that are read and written. */
#define ${P}_NUM_OBSERVATIONS $num_observations
#define ${P}_NUM_OUTPUTS $num_outputs
/* What one call costs. Code is not counted, nor is the test vector. */
#define ${P}_WEIGHT_BYTES $weight_bytes
#define ${P}_BUFFER_BYTES $buffer_bytes
#define ${P}_MULTIPLY_ACCUMULATES $multiply_accumulates

#ifdef __cplusplus
extern "C" {
#endif

/* Reads ${P}_NUM_OBSERVATIONS floats and writes ${P}_NUM_OUTPUTS floats; both may be the same array. */
void ${p}_forward(const float *observations, float *outputs);

/* Runs a stored test vector: 1 if the outputs are the expected ones, else 0. */
int ${p}_self_test(void);

#ifdef __cplusplus
}
#endif

#endif /* ${P}_H */

#if defined(${P}_IMPLEMENTATION) && !defined(${P}_IMPLEMENTED)
#define ${P}_IMPLEMENTED

$includes
#ifndef ${P}_BUFFER
#define ${P}_BUFFER
#endif
""")

ACTIVATION = Template("""\
static void ${p}_$name(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float x = values[i];
        values[i] = $expression;
    }
}
""")

CLIP = Template("""\
static void ${p}_clip(float *values)
{
    for (size_t i = 0; i < ${P}_NUM_OUTPUTS; i++) {
        if (values[i] < ${p}_low[i]) {
            values[i] = ${p}_low[i];
        } else if (values[i] > ${p}_high[i]) {
            values[i] = ${p}_high[i];
        }
    }
}
""")

FLOAT_LINEAR = Template("""\
/* outputs = weight * inputs + bias; the weights are row by row. */
static void ${p}_linear(const float *weight, const float *bias, const float *inputs, size_t num_inputs,
                        float *outputs, size_t num_outputs)
{
    for (size_t row = 0; row < num_outputs; row++) {
        float sum = bias[row];
        for (size_t i = 0; i < num_inputs; i++) {
            sum += weight[i] * inputs[i];
        }
        outputs[row] = sum;
        weight += num_inputs;
    }
}
""")

INT8_LINEAR = Template("""\
/* Rounds values to integers of at most `largest`; returns the step between them, NaN if a value is none. */
static float ${p}_quantize(const float *values, size_t count, float largest, int16_t *integers)
{
    float size = 0.0f;
    for (size_t i = 0; i < count; i++) {
        const float magnitude = values[i] < 0.0f ? -values[i] : values[i];
        if (magnitude > size || magnitude != magnitude) {
            size = magnitude;
        }
    }
    if (!(size >= $smallest && size <= FLT_MAX)) {
        for (size_t i = 0; i < count; i++) {
            integers[i] = 0;
        }
        return size < $smallest ? 0.0f : size - size;
    }
    const float inverse = largest / size;
    for (size_t i = 0; i < count; i++) {
        const float scaled = values[i] * inverse;
        integers[i] = (int16_t)(scaled < 0.0f ? scaled - 0.5f : scaled + 0.5f);
    }
    return size / largest;
}

/* outputs = weight * inputs * steps + bias; products and sums are integers, and no sum overflows. */
static void ${p}_linear(const int8_t *weight, const float *steps, const float *bias, const int16_t *inputs,
                        size_t num_inputs, float input_step, float *outputs, size_t num_outputs)
{
    for (size_t row = 0; row < num_outputs; row++) {
        int32_t sum = 0;
        for (size_t i = 0; i < num_inputs; i++) {
            sum += (int32_t)weight[i] * (int32_t)inputs[i];
        }
        outputs[row] = (float)sum * (input_step * steps[row]) + bias[row];
        weight += num_inputs;
    }
}
""")

FORWARD = Template("""\
void ${p}_forward(const float *observations, float *outputs)
{
$statements
}
""")

SELF_TEST = Template("""\
int ${p}_self_test(void)
{
$arrays
    ${P}_BUFFER float found[${P}_NUM_OUTPUTS];
    ${p}_forward(observations, found);
    for (size_t i = 0; i < ${P}_NUM_OUTPUTS; i++) {
        const float difference = found[i] - expected[i];
        if (!(difference <= $tolerance && difference >= -$tolerance)) {
            return 0;
        }
    }
    return 1;
}

#endif /* ${P}_IMPLEMENTATION */
""")
