/* A TFLite delegate as a vendor would bring one, and as bad as one can be.
 *
 * It takes the operations QUANTIZE from uint8 to int8 and DEQUANTIZE from int8 to float32, the first and the
 * last of an int8 network, and computes them right, unless the environment says otherwise:
 *
 *   FOREIGN_DELEGATE     what it does: works (also when unset), takes-nothing, refuses, segfaults-at-create,
 *                        hangs-at-create, segfaults, fails, hangs, lies, says-nan
 *   FOREIGN_DELEGATE_AT  from which run on the last five are done, counted from 1 (when unset: 1)
 *   FOREIGN_DELEGATE_IF  a file; when named, they are done only while it is there
 *
 * The declarations are the part of TensorFlow Lite's C interface (tensorflow/lite/core/c/common.h) that is
 * needed, and were tried with ai-edge-litert 2.3 and tflite-runtime 2.14. What later versions have appended to
 * a struct is left away, but for TfLiteRegistration, which is passed by value: it is as long as the longest.
 */

#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kOk = 0, kError = 1, kFloat32 = 1, kUInt8 = 3, kInt8 = 9, kDequantize = 6, kQuantize = 114 };

typedef struct {
  int size;
  int data[];
} IntArray;

typedef struct {
  int type;
  void *data;
  IntArray *dims;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int buffer_handle;
  _Bool data_is_stale;
  _Bool is_variable;
  struct {
    int type;
    void *params;
  } quantization;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;

typedef struct {
  IntArray *inputs;
  IntArray *outputs;
} Node;

struct Context;

typedef struct {
  void *(*init)(struct Context *, const char *, size_t);
  void (*free)(struct Context *, void *);
  int (*prepare)(struct Context *, Node *);
  int (*invoke)(struct Context *, Node *);
  const char *(*profiling_string)(const struct Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *registration_external;
  void *async_kernel;
  uint64_t inplace_operator;
} Registration;

typedef struct Delegate {
  void *data;
  int (*prepare)(struct Context *, struct Delegate *);
  void *copy_from_buffer_handle;
  void *copy_to_buffer_handle;
  void *free_buffer_handle;
  int64_t flags;
  void *opaque_delegate_builder;
} Delegate;

typedef struct Context {
  size_t tensors_size;
  int (*get_execution_plan)(struct Context *, IntArray **);
  Tensor *tensors;
  void *impl;
  void *resize_tensor;
  void (*report_error)(struct Context *, const char *, ...);
  void *add_tensors;
  int (*get_node_and_registration)(struct Context *, int, Node **, Registration **);
  int (*replace_node_subsets)(struct Context *, Registration, const IntArray *, Delegate *);
} Context;

static int runs = 0;

static int does(const char *what) {
  const char *told = getenv("FOREIGN_DELEGATE");
  return told != NULL && strcmp(told, what) == 0;
}

static int is_due(void) {
  const char *first = getenv("FOREIGN_DELEGATE_AT"), *file = getenv("FOREIGN_DELEGATE_IF");
  return runs >= (first != NULL ? atoi(first) : 1) && (file == NULL || access(file, F_OK) == 0);
}

static void hang(void) {
  for (;;) sleep(3600);
}

static int prepare_node(Context *context, Node *node) { return kOk; }

/* Of the tensors that one of its nodes takes, the one that belongs to an output: it has as many numbers. */
static const Tensor *source_of(Context *context, Node *node, const Tensor *out) {
  size_t numbers = out->type == kFloat32 ? out->bytes / sizeof(float) : out->bytes;
  for (int i = 0; i < node->inputs->size; ++i) {
    const Tensor *in = &context->tensors[node->inputs->data[i]];
    if (in->bytes == numbers && in->type == (out->type == kFloat32 ? kInt8 : kUInt8)) return in;
  }
  return NULL;
}

static void quantize(const Tensor *in, Tensor *out, int lies) {
  const uint8_t *from = in->data;
  int8_t *to = out->data;
  for (size_t i = 0; i < in->bytes; ++i) to[i] = (int8_t)(from[i] ^ (lies ? 0x7f : 0x80));
}

static void dequantize(const Tensor *in, Tensor *out, int says_nan) {
  const int8_t *from = in->data;
  float *to = out->data;
  for (size_t i = 0; i < in->bytes; ++i)
    to[i] = says_nan ? NAN : (float)(from[i] - in->params.zero_point) * in->params.scale;
}

static int invoke(Context *context, Node *node) {
  int is_first = context->tensors[node->outputs->data[0]].type == kInt8;
  runs += is_first;
  int due = is_due();
  if (due && does("segfaults")) raise(SIGSEGV);
  if (due && does("hangs")) hang();
  if (due && does("fails")) return kError;
  for (int i = 0; i < node->outputs->size; ++i) {
    Tensor *out = &context->tensors[node->outputs->data[i]];
    const Tensor *in = source_of(context, node, out);
    if (in == NULL) return kError;
    if (is_first)
      quantize(in, out, due && does("lies"));
    else
      dequantize(in, out, due && does("says-nan"));
  }
  return kOk;
}

static int is_mine(Context *context, Node *node, Registration *registration) {
  const Tensor *in = &context->tensors[node->inputs->data[0]];
  const Tensor *out = &context->tensors[node->outputs->data[0]];
  if (registration->builtin_code == kDequantize) return in->type == kInt8 && out->type == kFloat32;
  return registration->builtin_code == kQuantize && in->type == kUInt8 && out->type == kInt8 &&
         in->params.scale == out->params.scale && in->params.zero_point == out->params.zero_point + 128;
}

static int prepare(Context *context, Delegate *delegate) {
  IntArray *plan;
  if (context->get_execution_plan(context, &plan) != kOk) return kError;
  IntArray *taken = malloc(sizeof(IntArray) + plan->size * sizeof(int));
  taken->size = 0;
  for (int i = 0; i < plan->size && !does("takes-nothing"); ++i) {
    Node *node;
    Registration *registration;
    if (context->get_node_and_registration(context, plan->data[i], &node, &registration) != kOk) break;
    if (is_mine(context, node, registration)) taken->data[taken->size++] = plan->data[i];
  }
  Registration kernel = {.prepare = prepare_node, .invoke = invoke, .custom_name = "Foreign", .version = 1};
  int status = kOk;
  if (taken->size > 0) status = context->replace_node_subsets(context, kernel, taken, delegate);
  free(taken);
  return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t options,
                                        void (*report_error)(const char *)) {
  if (does("refuses")) {
    report_error("no device of this vendor is plugged in");
    return NULL;
  }
  if (does("segfaults-at-create")) raise(SIGSEGV);
  if (does("hangs-at-create")) hang();
  Delegate *delegate = calloc(1, sizeof(Delegate));
  delegate->prepare = prepare;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
