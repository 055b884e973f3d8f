/* PPO's update as one compiled function: gather, advantage normalisation, loss, gradient, clipping and Adam, minibatch
   after minibatch. The mathematics is that of `ppo.ppo_loss`, which stays the reference: tests/rl/test_compiled.py holds
   every gradient here to autograd's. `compiled.py` compiles this file and calls it.

   Two networks of one shape: 0 the actor, 1 the critic. They share nothing but the norm of their gradient, so each may
   have a core of its own; the results are the same to the bit, on one core or two. A row of a matrix product does not
   depend on the rows beside it: the ratio on the first minibatch is exactly 1.

   Matrices are row-major, their columns padded with zeros to a multiple of V. `d_x` is dL/dx, of the shape of x.
   B rows of a minibatch, A actions or logits. */

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
enum { V = 64 / sizeof(real), MAX_LAYERS = 8, METRICS = 5, SPINS = 20000, CHUNK = 64 };
typedef real vec __attribute__((vector_size(64), aligned(sizeof(real))));
/* A tile of a product is held in registers. Without AVX-512 these are half as wide and half as many: larger tiles are
   spilled, and take ten times as long. Each number of a product is the same sum in the same order in either. */
#ifdef __AVX512F__
enum { PART = 64, WIDE = 4 };
#else
enum { PART = 32, WIDE = 1 };
#endif
typedef real part __attribute__((vector_size(PART), aligned(sizeof(real))));
static const double LOG_2PI = 1.8378770664093453, BETA1 = 0.9, BETA2 = 0.999, EPS = 1e-5; /* Adam's, as in SB3 */

enum { GAUSSIAN, CATEGORICAL };          /* a categorical distribution for each of `groups` choices */
enum { CLIP, KL_PENALTY };               /* the surrogate's step control */
enum { POLICY_LOSS, VALUE_LOSS, ENTROPY, APPROX_KL, CLIP_FRACTION };

typedef struct {
    int64_t layers, widths[MAX_LAYERS + 1]; /* inputs, hidden widths (padded), outputs (padded) */
    int64_t parameters;                     /* of one network: its layers, each weight (in, out) and bias, then log_std */
    int64_t kind, outputs, groups;
    const int64_t *group_sizes;
    real *buffers;                          /* (4, 2, parameters): values, gradients, Adam's first and second moments */
    int64_t adam_steps[2];

    int64_t control, normalize_advantage, cores, first; /* first: 0, or 1 for the critic alone */
    double lr, clip, kl_coef, value_coef, entropy_coef, max_grad_norm, max_kl;

    int64_t minibatches;
    const int64_t *starts, *rows;           /* (minibatches + 1); rows of the batch in the order of use */
    const real *features, *action, *advantage, *returns, *old_log_prob;
    const int64_t *choice;                  /* (batch, groups), categorical */
    const real *old_out, *old_log_std;      /* (batch, outputs), (outputs), for the KL penalty */
    double *metrics;                        /* (minibatches, METRICS) */
} Job;

static int64_t padded(int64_t n) { return (n + V - 1) / V * V; }

/* -- dense algebra */

/* C (R, W V) = bias + A (R, k) B (k, n): a tile of the product, held in registers. */
static inline __attribute__((always_inline)) void tile(
    int R, int W, int64_t n, int64_t k, const real *a, int64_t row, int64_t col, const real *b, const real *bias, real *c)
{
    enum { P = PART / sizeof(real), PARTS = V / P };
    part sum[8][4 * PARTS];
    for (int i = 0; i < R; i++)
        for (int j = 0; j < W * PARTS; j++) sum[i][j] = bias ? *(const part *)(bias + j * P) : (part){0};
    for (int64_t l = 0; l < k; l++)
        for (int i = 0; i < R; i++)
            for (int j = 0; j < W * PARTS; j++) sum[i][j] += a[i * row + l * col] * *(const part *)(b + l * n + j * P);
    for (int i = 0; i < R; i++)
        for (int j = 0; j < W * PARTS; j++) *(part *)(c + i * n + j * P) = sum[i][j];
}

/* C (m, n) = bias + A (m, k) B (k, n), A[i, l] at a[i row + l col]. n is a multiple of V. */
static void product(int64_t m, int64_t n, int64_t k, const real *a, int64_t row, int64_t col, const real *b,
                    const real *bias, real *c)
{
    for (int64_t j = 0; j < n;) {
        int wide = n - j >= WIDE * V;
        const real *bj = b + j, *zero = bias ? bias + j : NULL;
        int64_t i = 0;
        for (; i + 4 <= m; i += 4)
            if (wide) tile(4, WIDE, n, k, a + i * row, row, col, bj, zero, c + i * n + j);
            else tile(4, 1, n, k, a + i * row, row, col, bj, zero, c + i * n + j);
        for (; i < m; i++)
            if (wide) tile(1, WIDE, n, k, a + i * row, row, col, bj, zero, c + i * n + j);
            else tile(1, 1, n, k, a + i * row, row, col, bj, zero, c + i * n + j);
        j += wide ? WIDE * V : V;
    }
}

/* In place. In single precision tanh x = e / (e + 2) with e = exp(2 x) - 1 = 2^t (exp(r) - 1) + 2^t - 1, where
   2 x = t log 2 + r and |r| <= log(2) / 2, so that seven terms of the series reach the last bit. */
static void hyperbolic_tangent(real *x, int64_t n)
{
#ifdef DOUBLE
    for (int64_t i = 0; i < n; i++) x[i] = tanh(x[i]);
#else
    for (int64_t i = 0; i < n; i++) {
        float y = 2 * x[i];
        y = y > 40 ? 40 : y;
        y = y < -40 ? -40 : y;
        float t = __builtin_rintf(y * 1.44269504f);
        float r = (y - t * 0.693359375f) - t * -2.12194440e-4f; /* log 2 in two parts: the first product is exact */
        float q = r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r * (1 / 720.f + r / 5040))))));
        int32_t bits = ((int32_t)t + 127) << 23;
        float power;
        memcpy(&power, &bits, sizeof power);
        float e = power * q + (power - 1);
        x[i] = e / (e + 2);
    }
#endif
}

/* -- networks: h <- tanh(h W + b) layer by layer, the last without tanh */

typedef struct {
    real *h[MAX_LAYERS + 1], *d_h[MAX_LAYERS + 1]; /* h[0] the input; (B, width) each */
    real *transposed, *features, *head;            /* scratch */
    real *advantage, *ratio;                       /* (B,) */
} Work;

static const real *weight(const Job *job, int which, int net, int64_t layer)
{
    int64_t start = 0;
    for (int64_t l = 0; l < layer; l++) start += (job->widths[l] + 1) * job->widths[l + 1];
    return job->buffers + (2 * which + net) * job->parameters + start;
}

static const real *log_std_of(const Job *job, int which)
{
    return job->buffers + (2 * which + 1) * job->parameters - padded(job->outputs);
}

static void *aligned(int64_t reals) { return aligned_alloc(64, padded(reals > 0 ? reals : 1) * sizeof(real)); }

static int allocate(const Job *job, int64_t rows, Work *work)
{
    int64_t widest = 1, ok = 1;
    for (int64_t l = 0; l <= job->layers; l++) {
        work->h[l] = aligned(rows * job->widths[l]);
        work->d_h[l] = aligned(rows * job->widths[l]);
        widest = job->widths[l] > widest ? job->widths[l] : widest;
        ok = ok && work->h[l] && work->d_h[l];
        if (ok) memset(work->d_h[l], 0, rows * job->widths[l] * sizeof(real));
    }
    work->transposed = aligned(widest * padded(widest));
    work->head = aligned(8 * padded(job->outputs));
    work->advantage = aligned(rows);
    work->ratio = aligned(rows);
    return ok && work->transposed && work->head && work->advantage && work->ratio;
}

static void release(const Job *job, Work *work)
{
    for (int64_t l = 0; l <= job->layers; l++) { free(work->h[l]); free(work->d_h[l]); }
    free(work->transposed); free(work->head); free(work->advantage); free(work->ratio);
}

static void forward(const Job *job, int net, int64_t rows, const real *x, Work *work)
{
    for (int64_t l = 0; l < job->layers; l++) {
        int64_t in = job->widths[l], out = job->widths[l + 1];
        const real *w = weight(job, 0, net, l);
        product(rows, out, in, l ? work->h[l] : x, in, 1, w, w + in * out, work->h[l + 1]);
        if (l < job->layers - 1) hyperbolic_tangent(work->h[l + 1], rows * out);
    }
}

/* z = h W + b, so d_W = h^T d_z, d_b = the sum of d_z over rows, d_h = d_z W^T; h = tanh z, so d_z = d_h (1 - h^2). */
static void backward(const Job *job, int net, int64_t rows, Work *work)
{
    for (int64_t l = job->layers - 1; l >= 0; l--) {
        int64_t in = job->widths[l], out = job->widths[l + 1];
        const real *w = weight(job, 0, net, l), one = 1;
        real *d_w = (real *)weight(job, 1, net, l), *d_z = work->d_h[l + 1], *h = work->h[l], *d_h = work->d_h[l];
        product(in, out, rows, h, 1, in, d_z, NULL, d_w);
        product(1, out, rows, &one, 0, 0, d_z, NULL, d_w + in * out);
        if (l == 0) return;
        int64_t used = l == job->layers - 1 ? (net ? 1 : job->outputs) : out; /* the padding's d_z is zero */
        for (int64_t i = 0; i < in; i++)
            for (int64_t o = 0; o < used; o++) work->transposed[o * in + i] = w[i * out + o];
        product(rows, in, used, d_z, out, 1, work->transposed, NULL, d_h);
        for (int64_t i = 0; i < rows * in; i++) d_h[i] *= 1 - h[i] * h[i];
    }
}

/* -- action distributions, one row at a time; not inlined, so that a row has the same bits wherever it is computed */

/* Gaussian: z = (a - mean) / std is left in `z`. log p = sum of -z^2 / 2 - log_std - log(2 pi) / 2. */
static __attribute__((noinline)) real gaussian_log_prob(const Job *job, const real *mean, const real *action, const real *inverse_std,
                              double constant, real *z)
{
    real squares = 0;
    for (int64_t i = 0; i < job->outputs; i++) {
        z[i] = (action[i] - mean[i]) * inverse_std[i];
        squares += z[i] * z[i];
    }
    return -(real)0.5 * squares - (real)constant;
}

static __attribute__((noinline)) double gaussian_constant(const Job *job, real *inverse_std)
{
    const real *log_std = log_std_of(job, 0);
    double constant = 0.5 * LOG_2PI * job->outputs;
    for (int64_t i = 0; i < job->outputs; i++) {
        inverse_std[i] = exp(-log_std[i]);
        constant += log_std[i];
    }
    return constant;
}

/* Log-probabilities of n logits. */
static void log_softmax(int64_t n, const real *logits, real *log_p)
{
    real top = logits[0], sum = 0;
    for (int64_t i = 1; i < n; i++) top = logits[i] > top ? logits[i] : top;
    for (int64_t i = 0; i < n; i++) sum += exp(logits[i] - top);
    for (int64_t i = 0; i < n; i++) log_p[i] = logits[i] - top - log(sum);
}

/* The choices are independent: their log-probabilities add up. Leaves those of all logits in `log_p`. */
static __attribute__((noinline)) real categorical_log_prob(const Job *job, const real *logits, const int64_t *choice, real *log_p)
{
    real sum = 0;
    for (int64_t g = 0, at = 0; g < job->groups; at += job->group_sizes[g++]) {
        log_softmax(job->group_sizes[g], logits + at, log_p + at);
        sum += log_p[at + choice[g]];
    }
    return sum;
}

/* -- the loss */

/* min(r A, clip(r) A) (eq. 7); *d is its derivative with respect to log r: r A inside the range, 0 where the clipped one
   is the smaller; as torch.min does, half of it where both are equal outside. */
static real clipped_surrogate(real ratio, real advantage, real clip, real *d)
{
    real clipped_ratio = ratio < 1 - clip ? 1 - clip : ratio > 1 + clip ? 1 + clip : ratio;
    real objective = ratio * advantage, clipped = clipped_ratio * advantage;
    *d = clipped_ratio == ratio || objective < clipped ? objective : objective == clipped ? objective / 2 : 0;
    return objective < clipped ? objective : clipped;
}

/* To mean 0 and (unbiased) standard deviation 1. */
static void normalize(int64_t n, real *x)
{
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i] / n;
    for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    double scale = 1 / (sqrt(squares / (n - 1)) + 1e-8);
    for (int64_t i = 0; i < n; i++) x[i] = (x[i] - mean) * scale;
}

/* KL(new || old) of a row; adds its gradient times `weight`.
   Gaussian: the sum of (v + m^2 - 1 - log v) / 2, v = (std / old std)^2, m = (mean - old mean) / old std, so
   d / d mean = m / old std and d / d log_std = v - 1. Categorical: the sum of p (log p - log q), so
   d / d logit_k = p_k (log p_k - log q_k - KL) within each choice. */
static double kl_row(const Job *job, const real *out, const real *old, const real *log_p, real weight, real *d_out,
                     real *d_log_std)
{
    double kl = 0;
    if (job->kind == GAUSSIAN) {
        const real *log_std = log_std_of(job, 0);
        for (int64_t i = 0; i < job->outputs; i++) {
            real log_v = 2 * (log_std[i] - job->old_log_std[i]), v = exp(log_v), inverse = exp(-job->old_log_std[i]);
            real m = (out[i] - old[i]) * inverse;
            kl += 0.5 * (v + m * m - 1 - log_v);
            d_out[i] += weight * m * inverse;
            d_log_std[i] += weight * (v - 1);
        }
        return kl;
    }
    real log_q[job->outputs];
    for (int64_t g = 0, at = 0; g < job->groups; at += job->group_sizes[g++]) {
        double group = 0;
        log_softmax(job->group_sizes[g], old + at, log_q + at);
        for (int64_t i = at; i < at + job->group_sizes[g]; i++) group += exp(log_p[i]) * (log_p[i] - log_q[i]);
        for (int64_t i = at; i < at + job->group_sizes[g]; i++)
            d_out[i] += weight * exp(log_p[i]) * (log_p[i] - log_q[i] - (real)group);
        kl += group;
    }
    return kl;
}

/* Adds a row's gradient of d_log_prob * log p - entropy_coef / B * H and returns H.
   Gaussian: d log p / d mean = z / std, d log p / d log_std = z^2 - 1, d H / d log_std = 1.
   Categorical: d log p_a / d logit_k = [k = a] - p_k; d H / d logit_k = -p_k (log p_k + H). */
static double distribution_row(const Job *job, const int64_t *choice, const real *z_or_log_p, const real *inverse_std,
                               double constant, real d_log_prob, real d_entropy, real *d_out, real *d_log_std)
{
    if (job->kind == GAUSSIAN) {
        for (int64_t i = 0; i < job->outputs; i++) {
            d_out[i] = d_log_prob * z_or_log_p[i] * inverse_std[i];
            d_log_std[i] += d_log_prob * (z_or_log_p[i] * z_or_log_p[i] - 1) + d_entropy;
        }
        return constant + 0.5 * job->outputs;
    }
    double entropy = 0;
    for (int64_t g = 0, at = 0; g < job->groups; at += job->group_sizes[g++]) {
        double h = 0;
        for (int64_t i = at; i < at + job->group_sizes[g]; i++) h -= exp(z_or_log_p[i]) * z_or_log_p[i];
        for (int64_t i = at; i < at + job->group_sizes[g]; i++) {
            real p = exp(z_or_log_p[i]);
            d_out[i] = -p * (d_log_prob + d_entropy * (z_or_log_p[i] + (real)h));
        }
        d_out[at + choice[g]] += d_log_prob;
        entropy += h;
    }
    return entropy;
}

/* The policy's part of the loss on one minibatch: metrics, and the gradient of the actor's outputs and of log_std. */
static void policy_loss(const Job *job, int64_t n, const int64_t *rows, Work *work, double *metrics)
{
    int64_t width = job->widths[job->layers];
    real *inverse_std = work->head, *z = work->head + padded(job->outputs);
    real *d_log_std = (real *)log_std_of(job, 1), d_objective;
    double constant = job->kind == GAUSSIAN ? gaussian_constant(job, inverse_std) : 0, loss = 0, entropy = 0, far = 0;
    double approx_kl = 0;
    memset(d_log_std, 0, padded(job->outputs) * sizeof(real));
    for (int64_t i = 0; i < n; i++) work->advantage[i] = job->advantage[rows[i]];
    if (job->normalize_advantage) normalize(n, work->advantage);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = rows[i];
        const real *out = work->h[job->layers] + i * width;
        const int64_t *choice = job->choice + row * job->groups;
        real *d_out = work->d_h[job->layers] + i * width;
        real log_prob = job->kind == GAUSSIAN
            ? gaussian_log_prob(job, out, job->action + row * job->outputs, inverse_std, constant, z)
            : categorical_log_prob(job, out, choice, z);
        real log_ratio = log_prob - job->old_log_prob[row], ratio = exp(log_ratio);
        real objective = d_objective = ratio * work->advantage[i];
        if (job->control == CLIP) objective = clipped_surrogate(ratio, work->advantage[i], job->clip, &d_objective);
        entropy += distribution_row(job, choice, z, inverse_std, constant, -d_objective / n, -job->entropy_coef / n,
                                    d_out, d_log_std);
        if (job->control == KL_PENALTY)
            loss += job->kl_coef * kl_row(job, out, job->old_out + row * job->outputs, z, job->kl_coef / n, d_out,
                                          d_log_std);
        loss -= objective;
        approx_kl += ratio - 1 - log_ratio; /* k3, as in ppo_loss */
        far += fabs(ratio - 1) > (real)job->clip;
    }
    metrics[POLICY_LOSS] = loss / n;
    metrics[ENTROPY] = entropy / n;
    metrics[APPROX_KL] = approx_kl / n;
    metrics[CLIP_FRACTION] = far / n;
}

/* The mean of (V - R)^2, whose weight is value_coef: d_V = 2 value_coef (V - R) / B. */
static void value_loss(const Job *job, int64_t n, const int64_t *rows, Work *work, double *metrics)
{
    int64_t width = job->widths[job->layers];
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        real error = work->h[job->layers][i * width] - job->returns[rows[i]];
        work->d_h[job->layers][i * width] = 2 * job->value_coef * error / n;
        squares += error * error;
    }
    metrics[VALUE_LOSS] = squares / n;
}

/* Loss and gradient of one network on one minibatch; returns the gradient's squared norm. */
static double gradient(const Job *job, int net, int64_t step, Work *work)
{
    int64_t n = job->starts[step + 1] - job->starts[step], in = job->widths[0];
    const int64_t *rows = job->rows + job->starts[step];
    for (int64_t i = 0; i < n; i++) memcpy(work->h[0] + i * in, job->features + rows[i] * in, in * sizeof(real));
    forward(job, net, n, work->h[0], work);
    (net ? value_loss : policy_loss)(job, n, rows, work, job->metrics + step * METRICS);
    backward(job, net, n, work);
    const real *d = weight(job, 1, net, 0);
    vec squares = {0};
    double sum = 0;
    for (int64_t i = 0; i < job->parameters; i += V) squares += *(const vec *)(d + i) * *(const vec *)(d + i);
    for (int i = 0; i < V; i++) sum += squares[i];
    return sum;
}

/* Adam (arXiv 1412.6980, the bias corrections within the scalars as at the end of section 2), the gradient scaled. */
static void adam(Job *job, int net, real scale)
{
    real *p = (real *)weight(job, 0, net, 0), *d = (real *)weight(job, 1, net, 0);
    real *m = (real *)weight(job, 2, net, 0), *v = (real *)weight(job, 3, net, 0);
    int64_t t = ++job->adam_steps[net];
    double correction1 = 1 - pow(BETA1, t), correction2 = sqrt(1 - pow(BETA2, t));
    real rate = job->lr * correction2 / correction1, eps = EPS * correction2;
    real beta1 = BETA1, rest1 = 1 - BETA1, beta2 = BETA2, rest2 = 1 - BETA2;
    for (int64_t i = 0; i < job->parameters; i++) {
        real g = d[i] * scale;
        d[i] = g;
        m[i] = beta1 * m[i] + rest1 * g;
        v[i] = beta2 * v[i] + rest2 * g * g;
        p[i] -= rate * m[i] / (sqrt(v[i]) + eps);
    }
}

/* -- minibatch after minibatch, on one core or two */

typedef struct {
    Job *job;
    _Atomic int64_t done[2]; /* gradients computed by each core */
    double squares[2][2];    /* squared norms by network, of even and of odd minibatches */
    int stop[2][2];          /* by minibatch, even or odd, and core */
    int64_t applied;
    _Atomic int asleep[2];
    pthread_mutex_t lock;
    pthread_cond_t arrived;
} Shared;

typedef struct { Shared *shared; int core, first, last, failed; } Share;

/* Both cores wait here, once a minibatch: the norm is that of both gradients. Spinning is quickest where both run; where
   other work has taken the other core, sleeping is: who yields instead loses its own core too, for a time slice. */
static void meet(Shared *shared, int core, int64_t step)
{
    shared->done[core] = step + 1;
    if (shared->asleep[1 - core]) {
        pthread_mutex_lock(&shared->lock);
        pthread_cond_signal(&shared->arrived);
        pthread_mutex_unlock(&shared->lock);
    }
    for (int spins = 0; spins < SPINS; spins++)
        if (atomic_load_explicit(&shared->done[1 - core], memory_order_acquire) > step) return;
    pthread_mutex_lock(&shared->lock);
    shared->asleep[core] = 1;
    while (shared->done[1 - core] <= step) pthread_cond_wait(&shared->arrived, &shared->lock);
    shared->asleep[core] = 0;
    pthread_mutex_unlock(&shared->lock);
}

static void *train_share(void *argument)
{
    Share *share = argument;
    Shared *shared = share->shared;
    Job *job = shared->job;
    int64_t most = 0;
    for (int64_t s = 0; s < job->minibatches; s++)
        if (job->starts[s + 1] - job->starts[s] > most) most = job->starts[s + 1] - job->starts[s];
    Work work[2];
    memset(work, 0, sizeof work);
    for (int net = share->first; net < share->last; net++) share->failed |= !allocate(job, most, &work[net]);
    for (int64_t step = 0; step < job->minibatches; step++) {
        int slot = step & 1;
        for (int net = share->first; net < share->last && !share->failed; net++)
            shared->squares[slot][net] = gradient(job, net, step, &work[net]);
        int too_far = share->first == 0 && job->metrics[step * METRICS + APPROX_KL] > job->max_kl;
        shared->stop[slot][share->core] = share->failed || too_far;
        if (share->last - share->first < 2 - job->first) meet(shared, share->core, step);
        if (shared->stop[slot][0] || shared->stop[slot][1]) break;
        double norm = sqrt((job->first ? 0 : shared->squares[slot][0]) + shared->squares[slot][1]);
        double scale = job->max_grad_norm / (norm + 1e-6); /* as torch's clip_grad_norm_ */
        for (int net = share->first; net < share->last; net++) adam(job, net, scale < 1 ? scale : 1);
        if (share->core == 0) shared->applied = step + 1;
    }
    for (int net = share->first; net < share->last; net++) release(job, &work[net]);
    return NULL;
}

/* All minibatches. Returns how many steps were taken: fewer than `minibatches` if the approximate KL of the next one
   exceeds max_kl; -1 without memory. */
int64_t train(Job *job)
{
    Shared shared = {.job = job, .lock = PTHREAD_MUTEX_INITIALIZER, .arrived = PTHREAD_COND_INITIALIZER};
    Share mine = {&shared, 0, job->first, 2, 0}, other = {&shared, 1, 1, 2, 0};
    pthread_t thread;
    mine.last = job->cores > 1 && job->first == 0 ? 1 : 2;
    int helped = mine.last == 1 && pthread_create(&thread, NULL, train_share, &other) == 0;
    if (!helped) mine.last = 2;
    train_share(&mine);
    if (helped) pthread_join(thread, NULL);
    return mine.failed || other.failed ? -1 : shared.applied;
}

/* The gradient alone, of the first minibatch: for the tests. */
int64_t gradients(Job *job)
{
    for (int net = job->first; net < 2; net++) {
        Work work = {0};
        int ok = allocate(job, job->starts[1], &work);
        if (ok) gradient(job, net, 0, &work);
        release(job, &work);
        if (!ok) return -1;
    }
    return 0;
}

typedef struct {
    const Job *job;
    int64_t net, rows;
    const real *x;
    real *out;
    _Atomic int64_t next, failed;
} Reading;

static void *output_share(void *argument)
{
    Reading *reading = argument;
    const Job *job = reading->job;
    int64_t chunk = reading->rows < CHUNK ? reading->rows : CHUNK, width = job->widths[job->layers], i;
    Work work = {0};
    int ok = allocate(job, chunk, &work);
    if (!ok) reading->failed = 1;
    while (ok && (i = atomic_fetch_add(&reading->next, chunk)) < reading->rows) {
        int64_t n = reading->rows - i < chunk ? reading->rows - i : chunk;
        forward(job, reading->net, n, reading->x + i * job->widths[0], &work);
        memcpy(reading->out + i * width, work.h[job->layers], n * width * sizeof(real));
    }
    release(job, &work);
    return NULL;
}

/* Outputs (rows, padded outputs) of one network for x (rows, inputs): on two cores, where they are many; each takes what
   is next until nothing is left. */
int64_t outputs(const Job *job, int64_t net, int64_t rows, const real *x, real *out)
{
    Reading reading = {.job = job, .net = net, .rows = rows, .x = x, .out = out};
    pthread_t thread;
    int helped = job->cores > 1 && rows > 4 * CHUNK && pthread_create(&thread, NULL, output_share, &reading) == 0;
    output_share(&reading);
    if (helped) pthread_join(thread, NULL);
    return reading.failed ? -1 : 0;
}

/* The same for raw observations: x = clip((observation - mean) * scale). */
int64_t outputs_for(const Job *job, int64_t net, int64_t rows, const real *observation, const real *mean,
                    const real *scale, double clip, real *out)
{
    int64_t in = job->widths[0];
    real *x = aligned(rows * in), limit = clip;
    if (!x) return -1;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < in; j++) {
            real y = (observation[i * in + j] - mean[j]) * scale[j];
            x[i * in + j] = y < -limit ? -limit : y > limit ? limit : y;
        }
    int64_t result = outputs(job, net, rows, x, out);
    free(x);
    return result;
}

/* Log-probabilities (rows,) of the job's actions given the actor's outputs (rows, padded outputs). */
int64_t log_probs(const Job *job, int64_t rows, const real *out, real *log_prob)
{
    int64_t width = job->widths[job->layers];
    real scratch[2 * padded(job->outputs)], *inverse_std = scratch, *z = scratch + padded(job->outputs);
    double constant = job->kind == GAUSSIAN ? gaussian_constant(job, inverse_std) : 0;
    for (int64_t i = 0; i < rows; i++)
        log_prob[i] = job->kind == GAUSSIAN
            ? gaussian_log_prob(job, out + i * width, job->action + i * job->outputs, inverse_std, constant, z)
            : categorical_log_prob(job, out + i * width, job->choice + i * job->groups, z);
    return 0;
}
