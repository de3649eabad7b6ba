/* A libnvidia-ml.so.1 whose driver is a text file (LICTOR_TEST_NVML), read anew at every call.
 *
 * So the real pynvml, in the real helper process, meets cards that a test changes while the agent runs.
 * `state.py` writes the file and says what its lines mean. A process that is gone, or a zombie, holds no
 * memory unless its line is sticky: a real driver takes it back when the process ends, too.
 * -DOLD leaves out what older drivers do not have. Structs and codes are those of NVIDIA's nvml.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long u64;
enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7,
       LOST = 15, UNKNOWN = 999 };
enum { CARDS = 16, PROCS = 64 };

typedef struct {
  int index, major, minor, util, temp, fan, mig, lost;
  long power, limit;
  long long total, reserved, hidden;
  char uuid[96], name[96];
} Card;
typedef struct { int card, pid, busy, sticky; long long memory; char kind; } Proc;
typedef struct { int init, generation, hang, cards, procs; Card card[CARDS]; Proc proc[PROCS]; } State;

static int begun; /* the generation of the driver at nvmlInit; 0: not initialised */

static int alive(int pid) {
  char path[64], line[512], *end;
  FILE *file;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  if (!(file = fopen(path, "r"))) return 0;
  end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
  fclose(file);
  return end && end[2] != 'Z' && end[2] != 'X';
}

static void look(State *s) {
  const char *path = getenv("LICTOR_TEST_NVML");
  char line[512];
  do {
    FILE *file = path ? fopen(path, "r") : NULL;
    memset(s, 0, sizeof *s);
    if (!file) { s->init = 9; return; }
    while (fgets(line, sizeof line, file)) {
      Card *c = &s->card[s->cards];
      Proc *p = &s->proc[s->procs];
      sscanf(line, "init %d", &s->init);
      sscanf(line, "generation %d", &s->generation);
      sscanf(line, "hang %d", &s->hang);
      if (s->cards < CARDS &&
          sscanf(line, "card %d %95s %95s %lld %lld %lld %d %d %d %d %ld %ld %d %d %d", &c->index,
                 c->uuid, c->name, &c->total, &c->reserved, &c->hidden, &c->major, &c->minor,
                 &c->util, &c->temp, &c->power, &c->limit, &c->fan, &c->mig, &c->lost) == 15)
        s->cards++;
      if (s->procs < PROCS &&
          sscanf(line, "proc %d %d %lld %d %d %c", &p->card, &p->pid, &p->memory, &p->busy,
                 &p->sticky, &p->kind) == 6 &&
          (p->sticky || alive(p->pid)))
        s->procs++;
    }
    fclose(file);
    if (s->hang) usleep(50000);
  } while (s->hang); /* a driver that hangs: nobody who called it comes back */
}

static int enter(State *s) {
  look(s);
  return begun && s->generation == begun && s->init == 0 ? OK : UNINITIALIZED;
}

static int card(void *handle, State *s, Card **found) {
  int code = enter(s), place = (int)(long)handle - 1;
  if (code) return code;
  if (place < 0 || place >= s->cards) return INVALID;
  *found = &s->card[place];
  return (*found)->lost ? LOST : OK;
}

#define CARD State s; Card *c; int code = card(handle, &s, &c); if (code) return code
#define FIGURE(type, value) do { if ((value) < 0) return NOT_SUPPORTED; *(type *)out = (type)(value); return OK; } while (0)

int nvmlInitWithFlags(unsigned flags) {
  State s;
  (void)flags;
  look(&s);
  if (s.init == 0) begun = s.generation;
  return s.init;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { int code = begun ? OK : UNINITIALIZED; begun = 0; return code; }
const char *nvmlErrorString(int code) {
  static char text[32];
  snprintf(text, sizeof text, "stub error %d", code);
  return text;
}
int nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "550.54.15"); return OK; }
int nvmlSystemGetCudaDriverVersion(int *out) { *out = 12040; return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { *out = 12040; return OK; }
int nvmlDeviceGetCount_v2(unsigned *out) {
  State s;
  int code = enter(&s);
  *out = (unsigned)s.cards;
  return code;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
  State s;
  int code = enter(&s);
  if (code) return code;
  if (index >= (unsigned)s.cards) return INVALID;
  if (s.card[index].lost == 2) return LOST; /* it cannot even be opened */
  *out = (void *)(long)(index + 1);
  return OK;
}
int nvmlDeviceGetUUID(void *handle, char *out, unsigned size) { CARD; snprintf(out, size, "%s", c->uuid); return OK; }
int nvmlDeviceGetName(void *handle, char *out, unsigned size) {
  CARD;
  snprintf(out, size, "%s", c->name);
  for (char *p = out; *p; p++) if (*p == '_') *p = ' ';
  return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
  CARD;
  if (c->major < 0) return NOT_SUPPORTED;
  *major = c->major; *minor = c->minor;
  return OK;
}

static long long used(State *s, int index) {
  long long sum = 0;
  for (int i = 0; i < s->procs; i++)
    if (s->proc[i].card == index && s->proc[i].memory > 0) sum += s->proc[i].memory;
  return sum;
}
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } Memory2;
int nvmlDeviceGetMemoryInfo(void *handle, Memory *out) {
  CARD;
  if (c->total < 0) return NOT_SUPPORTED;
  out->total = c->total;
  out->used = used(&s, c->index) + c->hidden + c->reserved; /* version 1 counts it as used */
  out->free = out->total - out->used;
  return OK;
}
int nvmlDeviceGetUtilizationRates(void *handle, unsigned *out) {
  CARD;
  if (c->util < 0) return NOT_SUPPORTED;
  out[0] = c->util; out[1] = 0;
  return OK;
}
int nvmlDeviceGetTemperature(void *handle, int sensor, void *out) { CARD; (void)sensor; FIGURE(unsigned, c->temp); }
typedef struct { unsigned version; int sensor, temperature; } Temperature;
int nvmlDeviceGetTemperatureV(void *handle, Temperature *told) { CARD; void *out = &told->temperature; FIGURE(int, c->temp); }
int nvmlDeviceGetPowerUsage(void *handle, void *out) { CARD; FIGURE(unsigned, c->power); }
int nvmlDeviceGetEnforcedPowerLimit(void *handle, void *out) { CARD; FIGURE(unsigned, c->limit); }

typedef struct { unsigned pid; u64 memory; unsigned gpu, compute; } Process;
static int list(void *handle, unsigned *count, Process *out, char kind) {
  CARD;
  unsigned n = 0, room = out ? *count : 0;
  for (int i = 0; i < s.procs; i++) {
    Proc *p = &s.proc[i];
    if (p->card != c->index || (p->kind != kind && p->kind != 'b')) continue;
    if (n < room) {
      out[n].pid = p->pid;
      out[n].memory = p->memory < 0 ? ~0ULL : (u64)p->memory;
      out[n].gpu = out[n].compute = ~0U;
    }
    n++;
  }
  *count = n;
  return n > room ? TOO_SMALL : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v2(void *handle, unsigned *count, Process *out) { return list(handle, count, out, 'c'); }
int nvmlDeviceGetGraphicsRunningProcesses_v2(void *handle, unsigned *count, Process *out) { return list(handle, count, out, 'g'); }

#ifndef OLD
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, Process *out) { return list(handle, count, out, 'c'); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, Process *out) { return list(handle, count, out, 'g'); }
int nvmlDeviceGetMPSComputeRunningProcesses_v3(void *handle, unsigned *count, Process *out) { return list(handle, count, out, 'm'); }
int nvmlDeviceGetMemoryInfo_v2(void *handle, Memory2 *out) {
  CARD;
  if (c->total < 0) return NOT_SUPPORTED;
  out->total = c->total;
  out->reserved = c->reserved;
  out->used = used(&s, c->index) + c->hidden;
  out->free = out->total - out->used - out->reserved;
  return OK;
}
int nvmlDeviceGetFanSpeed(void *handle, void *out) { CARD; FIGURE(unsigned, c->fan); }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *next) {
  CARD;
  if (c->mig < 0) return NOT_SUPPORTED;
  *now = *next = c->mig;
  return OK;
}
typedef struct { unsigned pid; u64 stamp; unsigned sm, memory, encoder, decoder; } Sample;
int nvmlDeviceGetProcessUtilization(void *handle, Sample *out, unsigned *count, u64 since) {
  CARD;
  unsigned n = 0, room = out ? *count : 0;
  (void)since;
  for (int i = 0; i < s.procs; i++) {
    Proc *p = &s.proc[i];
    if (p->card != c->index || p->busy <= 0) continue;
    if (n < room) {
      memset(&out[n], 0, sizeof *out);
      out[n].pid = p->pid; out[n].stamp = 1; out[n].sm = p->busy;
    }
    n++;
  }
  *count = n;
  if (n == 0) return NOT_FOUND;
  return n > room ? TOO_SMALL : OK;
}
#endif
