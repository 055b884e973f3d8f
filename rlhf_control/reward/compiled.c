/* The reward ensemble's gradient steps as one compiled function: gather, networks, likelihood, gradient and AdamW,
   minibatch after minibatch. The mathematics is that of `fit.AutogradSteps`, which stays the reference:
   tests/reward/test_compiled.py holds every gradient and every step here to it. `compiled.py` compiles this file and
   calls it.

   Members share nothing, so each may be on a core of its own; the results are the same to the bit on any number.

   Matrices are row-major, their columns padded with zeros to a multiple of V. `d_x` is dL/dx, of the shape of x.
   E members, S clips, L steps of a clip, K items of an answer, B answers of a minibatch. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

#ifdef DOUBLE /* for the tests */
typedef double real;
#else
typedef float real;
#endif
enum { V = 64 / sizeof(real), MAX_LAYERS = 8, MAX_CORES = 64 };
typedef real vec __attribute__((vector_size(64), aligned(sizeof(real))));
/* A tile of a product is held in registers. Without AVX-512 these are half as wide and half as many: larger tiles are
   spilled, and take ten times as long. Each number of a product is the same sum in the same order in either. */
#ifdef __AVX512F__
enum { PART = 64, WIDE = 4 };
#else
enum { PART = 32, WIDE = 1 };
#endif
typedef real part __attribute__((vector_size(PART), aligned(sizeof(real))));
static const double BETA1 = 0.9, BETA2 = 0.999, EPS = 1e-8; /* AdamW's, as torch has them */
static const real LEAK = 0.01;

typedef struct {
    int64_t members, layers;
    int64_t sizes[MAX_LAYERS + 1], widths[MAX_LAYERS + 1]; /* inputs, hidden, 1; and padded */
    int64_t parameters;           /* of a member: each layer's weight (in, out), then its bias; the last out is 1 */
    real *buffers;                /* (4, E, parameters): values, gradients, AdamW's first and second moments */
    int64_t adam_steps, cores;
    double lr, weight_decay, logit_scale, lapse;

    int64_t clips, length, stride, items_each;
    const real *x;                /* (S, L, padded inputs) */
    const int64_t *items, *ranks; /* (Q, K); the rank -1 is no item */
    const double *trust;          /* (Q,) in each answer's annotator, which multiplies the logits; NULL: 1 */
    const real *below;            /* (E, S) what the mean outputs of each clip are added to; NULL: 0 */

    int64_t steps, batch;
    const int64_t *answers;       /* (steps, E, B) */
    const int64_t *phase;         /* (steps,) the first step of a clip that is looked at; then every stride-th */
} Job;

/* -- dense algebra */

/* C (R, W V) = start + A (R, k) B (k, n): a tile of the product, held in registers. start: rows `start_row` apart. */
static inline __attribute__((always_inline)) void tile(
    int R, int W, int64_t n, int64_t k, const real *a, int64_t row, int64_t col, const real *b, const real *start,
    int64_t start_row, real *c)
{
    enum { P = PART / sizeof(real), PARTS = V / P };
    part sum[8][4 * PARTS];
    for (int i = 0; i < R; i++)
        for (int j = 0; j < W * PARTS; j++) sum[i][j] = start ? *(const part *)(start + i * start_row + j * P) : (part){0};
    for (int64_t l = 0; l < k; l++)
        for (int i = 0; i < R; i++)
            for (int j = 0; j < W * PARTS; j++) sum[i][j] += a[i * row + l * col] * *(const part *)(b + l * n + j * P);
    for (int i = 0; i < R; i++)
        for (int j = 0; j < W * PARTS; j++) *(part *)(c + i * n + j * P) = sum[i][j];
}

/* C (m, n) = start + A (m, k) B (k, n), A[i, l] at a[i row + l col]. n is a multiple of V. */
static void product(int64_t m, int64_t n, int64_t k, const real *a, int64_t row, int64_t col, const real *b,
                    const real *start, int64_t start_row, real *c)
{
    for (int64_t j = 0; j < n;) {
        int wide = n - j >= WIDE * V;
        int64_t i = 0;
        for (; i + 4 <= m; i += 4) {
            const real *from = start ? start + i * start_row + j : NULL;
            if (wide) tile(4, WIDE, n, k, a + i * row, row, col, b + j, from, start_row, c + i * n + j);
            else tile(4, 1, n, k, a + i * row, row, col, b + j, from, start_row, c + i * n + j);
        }
        for (; i < m; i++) {
            const real *from = start ? start + i * start_row + j : NULL;
            if (wide) tile(1, WIDE, n, k, a + i * row, row, col, b + j, from, start_row, c + i * n + j);
            else tile(1, 1, n, k, a + i * row, row, col, b + j, from, start_row, c + i * n + j);
        }
        j += wide ? WIDE * V : V;
    }
}

static real dot(int64_t n, const real *a, const real *b) /* n is a multiple of V */
{
    vec sums = {0};
    for (int64_t i = 0; i < n; i += V) sums += *(const vec *)(a + i) * *(const vec *)(b + i);
    real sum = 0;
    for (int i = 0; i < V; i++) sum += sums[i];
    return sum;
}

/* -- networks: h <- leaky(h W + b) layer by layer, y = tanh(h w + b), a clip's reward the mean of y over its steps,
   and what is below it */

typedef struct {
    real *h[MAX_LAYERS], *y;         /* hidden layers and outputs of all clips of a minibatch; h[0] is not used */
    real *d_h[MAX_LAYERS];           /* of one clip */
    real *transposed[MAX_LAYERS];    /* weights of the hidden layers */
    real *mean, *d_mean;             /* of each clip of a minibatch */
    int64_t *used, *place;           /* its clips; the place of each clip among them, or -1 */
} Work;

static int64_t layer_size(const Job *job, int64_t l)
{
    return l < job->layers - 1 ? (job->widths[l] + 1) * job->widths[l + 1] : job->widths[l] + V;
}

static real *weight(const Job *job, int which, int64_t member, int64_t layer)
{
    int64_t start = 0;
    for (int64_t l = 0; l < layer; l++) start += layer_size(job, l);
    return job->buffers + (which * job->members + member) * job->parameters + start;
}

/* How many steps of a clip are looked at; the most where the phase is 0. */
static int64_t frames_of(const Job *job, int64_t phase)
{
    return (job->length - phase + job->stride - 1) / job->stride;
}

static void *aligned(int64_t bytes) { return aligned_alloc(64, (bytes + 64) / 64 * 64); }

static int allocate(const Job *job, int64_t clips, Work *work)
{
    int64_t most = frames_of(job, 0), rows = clips * most;
    int ok = 1;
    for (int64_t l = 1; l < job->layers; l++) {
        ok &= (work->h[l] = aligned(rows * job->widths[l] * sizeof(real))) != NULL;
        ok &= (work->d_h[l] = aligned(most * job->widths[l] * sizeof(real))) != NULL;
        ok &= (work->transposed[l] = aligned(job->widths[l] * job->widths[l + 1] * sizeof(real))) != NULL;
    }
    ok &= (work->y = aligned(rows * sizeof(real))) != NULL;
    ok &= (work->mean = aligned(clips * sizeof(real))) != NULL;
    ok &= (work->d_mean = aligned(clips * sizeof(real))) != NULL;
    ok &= (work->used = aligned(clips * sizeof(int64_t))) != NULL;
    ok &= (work->place = aligned(job->clips * sizeof(int64_t))) != NULL;
    for (int64_t i = 0; ok && i < job->clips; i++) work->place[i] = -1;
    return ok;
}

static void release(const Job *job, Work *work)
{
    for (int64_t l = 1; l < job->layers; l++) { free(work->h[l]); free(work->d_h[l]); free(work->transposed[l]); }
    free(work->y); free(work->mean); free(work->d_mean); free(work->used); free(work->place);
}

static const real *frames_at(const Job *job, int64_t clip, int64_t phase)
{
    return job->x + (clip * job->length + phase) * job->widths[0];
}

/* The mean output of a clip; what `backward` needs is left at `place` in `work`. */
static real forward(const Job *job, int64_t member, int64_t clip, int64_t phase, int64_t place, Work *work)
{
    int64_t n = frames_of(job, phase), row = job->stride * job->widths[0], last = job->layers - 1;
    const real *h = frames_at(job, clip, phase);
    for (int64_t l = 0; l < last; l++) {
        int64_t in = job->widths[l], out = job->widths[l + 1];
        const real *w = weight(job, 0, member, l);
        real *z = work->h[l + 1] + place * frames_of(job, 0) * out;
        product(n, out, job->sizes[l], h, row, 1, w, w + in * out, 0, z);
        for (int64_t i = 0; i < n * out; i++) z[i] = z[i] > 0 ? z[i] : LEAK * z[i];
        h = z, row = out;
    }
    const real *w = weight(job, 0, member, last);
    real *y = work->y + place * frames_of(job, 0), sum = 0;
    for (int64_t i = 0; i < n; i++) {
        y[i] = tanh(dot(job->widths[last], h + i * row, w) + w[job->widths[last]]);
        sum += y[i];
    }
    return sum / n;
}

static real below(const Job *job, int64_t member, int64_t clip)
{
    return job->below ? job->below[member * job->clips + clip] : 0;
}

/* Adds to the gradient what one clip's d_mean brings. z = h W + b, so d_W = h^T d_z, d_b = the sum of d_z over rows,
   d_h = d_z W^T; d_z = d_h where h > 0, and LEAK d_h elsewhere; at the end d_z = d_y (1 - y^2). */
static void backward(const Job *job, int64_t member, int64_t clip, int64_t phase, int64_t place, Work *work)
{
    int64_t n = frames_of(job, phase), last = job->layers - 1, width = job->widths[last];
    int64_t input_row = job->stride * job->widths[0];
    const real *x = frames_at(job, clip, phase), *y = work->y + place * frames_of(job, 0), one = 1;
    const real *h = last ? work->h[last] + place * frames_of(job, 0) * width : x, *w = weight(job, 0, member, last);
    real *d_w = weight(job, 1, member, last), *d_h = last ? work->d_h[last] : NULL, d_y = work->d_mean[place] / n;
    for (int64_t i = 0; i < n; i++) {
        const real *h_i = h + i * (last ? width : input_row);
        real d_z = d_y * (1 - y[i] * y[i]);
        for (int64_t j = 0; j < width; j++) d_w[j] += d_z * h_i[j];
        d_w[width] += d_z;
        for (int64_t j = 0; last && j < width; j++) d_h[i * width + j] = d_z * w[j] * (h_i[j] > 0 ? 1 : LEAK);
    }
    for (int64_t l = last - 1; l >= 0; l--) {
        int64_t in = job->widths[l], out = job->widths[l + 1];
        const real *d_z = work->d_h[l + 1], *h = l ? work->h[l] + place * frames_of(job, 0) * in : x;
        real *d_w = weight(job, 1, member, l), *d_h = work->d_h[l];
        product(job->sizes[l], out, n, h, 1, l ? in : input_row, d_z, d_w, out, d_w);
        product(1, out, n, &one, 0, 0, d_z, d_w + in * out, 0, d_w + in * out);
        if (l == 0) return;
        product(n, in, job->sizes[l + 1], d_z, out, 1, work->transposed[l], NULL, 0, d_h);
        for (int64_t i = 0; i < n * in; i++) d_h[i] *= h[i] > 0 ? 1 : LEAK;
    }
}

/* -- the likelihood: `likelihoods.ranking_log_prob` without ties */

/* Adds the gradient of -log P(ranks) / B to `d_mean`. At each rank one of those present is the best, with the
   probability softmax(logits) among them, or, where the choice lapses, any. What ties for it shares the claim. */
static void likelihood(const Job *job, int64_t answer, Work *work)
{
    int64_t K = job->items_each;
    const int64_t *items = job->items + answer * K, *ranks = job->ranks + answer * K;
    double scale = job->logit_scale * (job->trust ? job->trust[answer] : 1);
    for (int64_t rank = 0; rank < K - 1; rank++) {
        int64_t best = 0, present = 0;
        double top = -INFINITY, sum = 0, chosen = 0;
        for (int64_t k = 0; k < K; k++) {
            if (ranks[k] < rank) continue;
            double logit = scale * work->mean[work->place[items[k]]];
            present++;
            if (ranks[k] == rank) { best++; chosen += logit; }
            if (logit > top) top = logit;
        }
        if (best == 0 || (best == present && rank > 0)) continue; /* nothing is stated */
        for (int64_t k = 0; k < K; k++)
            if (ranks[k] >= rank) sum += exp(scale * work->mean[work->place[items[k]]] - top);
        double p = (1 - job->lapse) * exp(chosen / best - top) / sum;
        double sure = job->lapse > 0 ? p / (p + job->lapse / present) : 1; /* that it was no lapse, given the answer */
        for (int64_t k = 0; k < K; k++) {
            if (ranks[k] < rank) continue;
            int64_t at = work->place[items[k]];
            double softmax = exp(scale * work->mean[at] - top) / sum;
            double d_log_p = sure * ((ranks[k] == rank ? 1.0 / best : 0) - softmax);
            work->d_mean[at] -= scale * d_log_p / job->batch;
        }
    }
}

/* -- gradient steps */

/* AdamW (arXiv 1711.05101) as torch has it. `step` counts from 1. */
static void adamw(const Job *job, int64_t member, int64_t step)
{
    real *p = weight(job, 0, member, 0), *d = weight(job, 1, member, 0);
    real *m = weight(job, 2, member, 0), *v = weight(job, 3, member, 0);
    real keep = 1 - job->lr * job->weight_decay, rate = job->lr / (1 - pow(BETA1, step)), eps = EPS;
    real correction = 1 / sqrt(1 - pow(BETA2, step));
    real beta1 = BETA1, rest1 = 1 - BETA1, beta2 = BETA2, rest2 = 1 - BETA2;
    for (int64_t i = 0; i < job->parameters; i++) {
        m[i] = beta1 * m[i] + rest1 * d[i];
        v[i] = beta2 * v[i] + rest2 * d[i] * d[i];
        p[i] = keep * p[i] - rate * m[i] / (sqrt(v[i]) * correction + eps);
    }
}

/* Every clip of the minibatch is scored once, however many of its answers are about it. */
static void gradient(const Job *job, int64_t member, int64_t step, Work *work)
{
    int64_t used = 0, K = job->items_each, phase = job->phase[step];
    const int64_t *answers = job->answers + (step * job->members + member) * job->batch;
    for (int64_t i = 0; i < job->batch * K; i++) {
        int64_t clip = job->items[answers[i / K] * K + i % K];
        if (work->place[clip] >= 0) continue;
        work->place[clip] = used;
        work->used[used++] = clip;
    }
    for (int64_t i = 0; i < used; i++)
        work->mean[i] = forward(job, member, work->used[i], phase, i, work) + below(job, member, work->used[i]);
    memset(work->d_mean, 0, used * sizeof(real));
    for (int64_t i = 0; i < job->batch; i++) likelihood(job, answers[i], work);
    for (int64_t l = 1; l < job->layers - 1; l++) {
        const real *w = weight(job, 0, member, l);
        int64_t in = job->widths[l], out = job->widths[l + 1];
        for (int64_t i = 0; i < in; i++)
            for (int64_t o = 0; o < out; o++) work->transposed[l][o * in + i] = w[i * out + o];
    }
    memset(weight(job, 1, member, 0), 0, job->parameters * sizeof(real));
    for (int64_t i = 0; i < used; i++) {
        backward(job, member, work->used[i], phase, i, work);
        work->place[work->used[i]] = -1;
    }
}

/* -- on several cores: each takes what is next until nothing is left */

typedef struct {
    const Job *job;
    pthread_mutex_t lock;
    int64_t *done;       /* (E,) steps of each member */
    char *busy;          /* (E,) */
    real *out;           /* (E, S) */
    _Atomic int64_t next, failed;
} Shared;

/* The free member with the fewest steps done, or -1. */
static int64_t take_member(Shared *shared)
{
    int64_t best = -1;
    for (int64_t e = 0; e < shared->job->members; e++)
        if (!shared->busy[e] && shared->done[e] < (best < 0 ? shared->job->steps : shared->done[best])) best = e;
    return best;
}

static void *train_share(void *argument)
{
    Shared *shared = argument;
    const Job *job = shared->job;
    int64_t most = job->batch * job->items_each, member;
    Work work = {0};
    int ok = allocate(job, most < job->clips ? most : job->clips, &work);
    if (!ok) shared->failed = 1;
    pthread_mutex_lock(&shared->lock);
    while (ok && (member = take_member(shared)) >= 0) {
        int64_t step = shared->done[member];
        shared->busy[member] = 1;
        pthread_mutex_unlock(&shared->lock);
        gradient(job, member, step, &work);
        adamw(job, member, job->adam_steps + step + 1);
        pthread_mutex_lock(&shared->lock);
        shared->busy[member] = 0;
        shared->done[member]++;
    }
    pthread_mutex_unlock(&shared->lock);
    release(job, &work);
    return NULL;
}

static void *score_share(void *argument)
{
    Shared *shared = argument;
    const Job *job = shared->job;
    int64_t clip;
    Work work = {0};
    int ok = allocate(job, 1, &work);
    if (!ok) shared->failed = 1;
    while (ok && (clip = shared->next++) < job->clips)
        for (int64_t e = 0; e < job->members; e++)
            shared->out[e * job->clips + clip] =
                job->logit_scale * (forward(job, e, clip, 0, 0, &work) + below(job, e, clip));
    release(job, &work);
    return NULL;
}

/* The outputs of all steps of the clips, looked at one by one. */
static void *output_share(void *argument)
{
    Shared *shared = argument;
    const Job *job = shared->job;
    int64_t chunk, rows = job->clips * job->length;
    Work work = {0};
    int ok = allocate(job, 1, &work);
    if (!ok) shared->failed = 1;
    while (ok && (chunk = shared->next++) < job->clips)
        for (int64_t e = 0; e < job->members; e++) {
            forward(job, e, chunk, 0, 0, &work);
            memcpy(shared->out + e * rows + chunk * job->length, work.y, job->length * sizeof(real));
        }
    release(job, &work);
    return NULL;
}

static int64_t on_all_cores(Shared *shared, void *(*share)(void *))
{
    pthread_t threads[MAX_CORES];
    int64_t helpers = 0, most = shared->job->cores < MAX_CORES ? shared->job->cores : MAX_CORES;
    pthread_mutex_init(&shared->lock, NULL);
    while (helpers + 1 < most && pthread_create(&threads[helpers], NULL, share, shared) == 0) helpers++;
    share(shared);
    for (int64_t i = 0; i < helpers; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&shared->lock);
    return shared->failed ? -1 : 0;
}

/* All steps of all members. -1 without memory. The last step's gradient stays in the buffers. */
int64_t train(Job *job)
{
    int64_t done[job->members];
    char busy[job->members];
    memset(done, 0, sizeof done);
    memset(busy, 0, sizeof busy);
    Shared shared = {.job = job, .done = done, .busy = busy};
    int64_t result = on_all_cores(&shared, train_share);
    job->adam_steps += job->steps;
    return result;
}

/* Logits (E, S) of all clips, from all of their steps. */
int64_t clip_logits(Job *job, real *out)
{
    Job every_step = *job;
    every_step.stride = 1;
    Shared shared = {.job = &every_step, .out = out};
    return on_all_cores(&shared, score_share);
}

/* Outputs (E, S L) of all steps; the job's stride is 1. */
int64_t step_outputs(Job *job, real *out)
{
    Shared shared = {.job = job, .out = out};
    return on_all_cores(&shared, output_share);
}
