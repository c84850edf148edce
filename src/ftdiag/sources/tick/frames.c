/* Following the frames of one thread, over the chunks of its data stack. */

#include "tick.h"

static int holds(const Walker *self, const Region *region, u64 frame) {
    return region->low < frame && frame < TOP && frame + self->frame_bytes <= region->end;
}

static Region *region_at(Walker *self, u64 low) {
    for (int i = 0; i < self->region_count; i++)
        if (self->regions[i].low == low) return &self->regions[i];
    return NULL;
}

int add_region(Walker *self, Region region) {
    if (self->region_count >= (int)(sizeof self->regions / sizeof self->regions[0])) return 0;
    self->regions[self->region_count++] = region;
    return 1;
}

/* The region that holds a frame, fetched if need be: its place; -1 if there is none, -2 with an exception. */
static int region_with(Walker *self, u64 frame, u64 top_chunk) {
    for (int i = 0; i < self->region_count; i++)
        if (holds(self, &self->regions[i], frame)) return i;
    u64 chunk = top_chunk;
    for (int hop = 0; chunk != 0 && hop < MAX_CHUNKS; hop++) {
        Region fresh, *known = region_at(self, chunk);
        if (known == NULL) {
            int came = fetch_chunk(self, chunk, FIRST_CHUNK_BYTES, &fresh);
            if (came <= 0) return came < 0 ? -2 : -1;
            known = &fresh;
            if (holds(self, known, frame)) return add_region(self, fresh) ? self->region_count - 1 : -1;
        }
        if (known->end - known->low < CHUNK_HEADER_BYTES) return -1;
        u64 previous = word(known->data), size = word(known->data + 8);
        if (chunk < frame && size < TOP && chunk < TOP && frame < chunk + size) {
            /* In this chunk, behind the part that was read. */
            int came = fetch_chunk(self, chunk, frame - chunk + self->frame_bytes, &fresh);
            if (came < 0) return -2;
            if (came == 0 || !holds(self, &fresh, frame)) return -1;
            for (int i = 0; i < self->region_count; i++)
                if (self->regions[i].low == chunk) {
                    fresh.order = self->regions[i].order;
                    fresh.highest = self->regions[i].highest;
                    memmove(&self->regions[i], &self->regions[i + 1],
                            (size_t)(self->region_count - i - 1) * sizeof(Region));
                    self->region_count--;
                    i--;
                }
            return add_region(self, fresh) ? self->region_count - 1 : -1;
        }
        chunk = previous;
    }
    return -1;
}

/* Whether a frame was seen already; notes it. */
static int seen_before(Walker *self, u64 frame) {
    size_t mask = sizeof self->visited / sizeof self->visited[0] - 1;
    for (size_t at = (size_t)((frame >> 3) * 0x9E3779B97F4A7C15u >> 40) & mask;; at = (at + 1) & mask) {
        if (self->visited[at] == frame) return 1;
        if (self->visited[at] == 0) {
            self->visited[at] = frame;
            return 0;
        }
    }
}

/* Which parts of which chunks to read next time: see PythonWalker._predict. */
static void predict(Walker *self, Thread *thread) {
    if (self->order_count == 1 && thread->chunk_count == 1) {
        Region *region = region_at(self, thread->chunks[0].start);
        u64 highest = region == NULL || region->order < 0 ? 0 : region->highest;
        u64 needed = highest - thread->chunks[0].start + self->frame_bytes + CHUNK_SLACK_BYTES;
        u64 size = thread->chunks[0].size;
        if (highest != 0 && needed <= size && size <= needed + 512) return;
    }
    Range next[MAX_CHUNKS_AHEAD];
    int count = 0, above = 0;
    for (int i = 0; i < thread->chunk_count; i++) {
        Region *region = region_at(self, thread->chunks[i].start);
        if (region != NULL && region->order >= 0) continue;
        if (above < MAX_CHUNKS_AHEAD / 4) next[count++] = thread->chunks[i];
        above++;
    }
    int room = MAX_CHUNKS_AHEAD - above;
    for (int order = 0; order < self->order_count && room > 0 && count < MAX_CHUNKS_AHEAD; order++) {
        Region *region = NULL;
        for (int i = 0; i < self->region_count; i++)
            if (self->regions[i].order == order) region = &self->regions[i];
        if (region == NULL || region->end - region->low < 16) continue;
        u64 wanted = region->highest - region->low + self->frame_bytes + CHUNK_SLACK_BYTES, old = 0;
        for (int i = 0; i < thread->chunk_count; i++)
            if (thread->chunks[i].start == region->low) old = thread->chunks[i].size;
        if (old - (old >> 5) > wanted) wanted = old - (old >> 5);
        wanted = (wanted + 255) & ~(u64)255;
        u64 size = word(region->data + 8), read = region->end - region->low;
        if (size < read) size = read;
        if (wanted > size) wanted = size;
        if (wanted > MAX_CHUNK_BYTES) wanted = MAX_CHUNK_BYTES;
        next[count++] = (Range){region->low, wanted};
        room--;
    }
    memcpy(thread->chunks, next, (size_t)count * sizeof(Range));
    thread->chunk_count = count;
}

static void predict_elsewhere(Thread *thread, const u64 *used, int count) {
    if (count > MAX_ELSEWHERE) count = MAX_ELSEWHERE;
    size_t size = (size_t)count * sizeof(u64);
    if (count == thread->elsewhere_count && memcmp(used, thread->elsewhere, size) == 0 &&
        count <= thread->ahead_count && memcmp(used, thread->ahead, size) == 0)
        return;
    u64 next[MAX_ELSEWHERE];
    int total = count;
    memcpy(next, used, size);
    for (int i = 0, former = 0; i < thread->ahead_count && former < FORMER_ELSEWHERE && total < MAX_ELSEWHERE; i++) {
        int again = 0;
        for (int j = 0; j < count; j++) again |= used[j] == thread->ahead[i];
        if (!again) {
            next[total++] = thread->ahead[i];
            former++;
        }
    }
    memcpy(thread->elsewhere, used, size);
    thread->elsewhere_count = count;
    memcpy(thread->ahead, next, (size_t)total * sizeof(u64));
    thread->ahead_count = total;
}

/* Follow the frames from `frame` on into chain and frames: how many there are, TORN, or FAILED (an exception). */
int follow(Walker *self, Thread *thread, u64 frame, u64 top_chunk, const size_t *ahead) {
    u64 used[MAX_ELSEWHERE];
    int used_count = 0, depth = 0, popped = 0, steps = 0, region = -1;
    byte alone[256];
    while (frame != 0) {
        const byte *at = NULL;
        if (region >= 0 && holds(self, &self->regions[region], frame))
            at = self->regions[region].data + (frame - self->regions[region].low);
        else {
            for (int i = 0; i < thread->ahead_count && at == NULL; i++)
                if (thread->ahead[i] == frame) at = self->buffer + ahead[i];
            if (at == NULL) {
                int found = region_with(self, frame, top_chunk);
                if (found == -2) return FAILED;
                if (found >= 0) {
                    region = found;
                    if (self->regions[region].order < 0) {
                        /* The first one is the highest: frames go down within a chunk. */
                        self->regions[region].order = self->order_count++;
                        self->regions[region].highest = frame;
                    }
                    at = self->regions[region].data + (frame - self->regions[region].low);
                } else {
                    self->late_reads++;
                    int came = read_one(self, frame, alone, self->frame_bytes);
                    if (came <= 0) return came < 0 ? FAILED : TORN;
                    at = alone;
                }
            }
            if (region < 0 || !holds(self, &self->regions[region], frame)) {
                if (used_count < MAX_ELSEWHERE) used[used_count++] = frame;
            }
        }
        u64 executable = word(at + self->executable), previous = word(at + self->previous);
        u64 instruction = word(at + self->instruction);
        int owner = at[self->owner];
        if (owner < self->foreign && executable == 0 && depth == 0)
            popped = 1; /* returned from since the thread state was read: its caller is the leaf */
        else if (owner < self->foreign) {
            self->chain[2 * depth] = executable;
            self->chain[2 * depth + 1] = instruction;
            self->frames[depth++] = frame;
        } else if (owner > self->foreign + 1)
            return TORN;
        frame = previous;
        steps++;
        self->work += FRAME_WORK;
        if (steps > CYCLE_CHECK_DEPTH) {
            if (steps == CYCLE_CHECK_DEPTH + 1) memset(self->visited, 0, sizeof self->visited);
            if (frame != 0 && seen_before(self, frame)) return TORN;
            if (steps >= MAX_DEPTH) {
                self->cut += frame != 0;
                break;
            }
        }
    }
    if (popped && depth == 0) return TORN;
    predict(self, thread);
    predict_elsewhere(thread, used, used_count);
    return depth;
}
