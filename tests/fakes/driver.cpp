// A CUDA driver that is not there: the C functions that bindings of Python call, in the host's memory, compiled by the tests.
// Streams are queues whose work is done when somebody waits; addresses are looked up, and a wrong one is a sticky error.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>
#include LETTERBOX

typedef int Result;
enum { OK = 0, INVALID = 1, MEMORY = 2, NO_CONTEXT = 201, CAPTURED = 901, ILLEGAL = 700, NO_DEVICE = 101 };
typedef std::function<void()> Work;
struct Stream { std::vector<Work> queue, recorded; bool recording = false, broken = false; };
struct Event { Stream* stream = nullptr; long recorded = 0, reached = 0; };
struct Graph { std::vector<Work> work; };
struct Block { size_t size; bool pinned, mapped; };

static std::recursive_mutex lock;
static std::map<uintptr_t, Block> blocks;
static Result lost = OK;
static size_t used = 0;
static const size_t TOTAL = size_t(1) << 30;
static int retained = 0;
static thread_local std::vector<void*> contexts;
static int the_context;

#define GUARD std::lock_guard<std::recursive_mutex> hold(lock); if (lost) return lost
#define CURRENT GUARD; if (contexts.empty()) return NO_CONTEXT

static bool living(const void* at, size_t size, bool on_device)
{
    uintptr_t address = (uintptr_t)at;
    auto found = blocks.upper_bound(address);
    if (found == blocks.begin()) return false;
    --found;
    const Block& block = found->second;
    if (address + size > found->first + block.size) return false;
    return on_device ? !block.pinned || block.mapped : block.pinned;
}
static void put(Stream* stream, Work work) { (stream->recording ? stream->recorded : stream->queue).push_back(work); }
static Result drain(Stream* stream)
{
    if (stream->recording) { stream->broken = true; return 900; }
    while (!stream->queue.empty() && !lost) {
        Work work = stream->queue.front();
        stream->queue.erase(stream->queue.begin());
        work();
    }
    return lost;
}
static void reach(Event* event, long until)
{
    while (event->stream && event->reached < until && !event->stream->queue.empty() && !lost) {
        Work work = event->stream->queue.front();
        event->stream->queue.erase(event->stream->queue.begin());
        work();
    }
}
static Work copy(void* target, const void* source, size_t size, bool to_device, bool from_device)
{
    return [=] {
        if (living(target, size, to_device) && living(source, size, from_device)) memcpy(target, source, size);
        else lost = ILLEGAL;
    };
}
static Result allocate(void** out, size_t size, bool pinned, bool mapped)
{
    if (!size) return INVALID;
    if (size > TOTAL || used + size > TOTAL) return MEMORY;
    char* made = new char[size];
    memset(made, 0xCD, size);
    used += size;
    blocks[(uintptr_t)made] = {size, pinned, mapped};
    *out = made;
    return OK;
}
static Result release(void* at)
{
    auto found = blocks.find((uintptr_t)at);
    if (found == blocks.end()) return INVALID;
    used -= found->second.size;
    blocks.erase(found);
    delete[] (char*)at;
    return OK;
}

extern "C" {
Result cuInit(unsigned) { return OK; }
Result cuDriverGetVersion(int* out) { *out = 12060; return OK; }
Result cuDeviceGetCount(int* out) { *out = 1; return OK; }
Result cuDeviceGet(int* out, int index) { *out = index; return index ? NO_DEVICE : OK; }
Result cuDeviceGetName(char* out, int size, int) { snprintf(out, size, "Driver that is not there"); return OK; }
Result cuDeviceTotalMem_v2(size_t* out, int) { *out = TOTAL; return OK; }
Result cuDeviceGetAttribute(int* out, int kind, int) { *out = kind == 75 ? 8 : kind == 76 ? 7 : 0; return OK; }
Result cuDevicePrimaryCtxRetain(void** out, int) { GUARD; retained++; *out = &the_context; return OK; }
Result cuDevicePrimaryCtxRelease_v2(int) { return retained-- > 0 ? OK : INVALID; }
Result cuCtxPushCurrent_v2(void* context) { GUARD; contexts.push_back(context); return OK; }
Result cuCtxPopCurrent_v2(void** out) { if (contexts.empty()) return NO_CONTEXT; *out = contexts.back(); contexts.pop_back(); return OK; }
Result cuStreamCreate(void** out, unsigned) { CURRENT; *out = new Stream; return OK; }
Result cuStreamDestroy_v2(void* stream) { CURRENT; delete (Stream*)stream; return OK; }
Result cuStreamSynchronize(void* stream) { CURRENT; return (uintptr_t)stream < 16 ? OK : drain((Stream*)stream); }
Result cuStreamWaitEvent(void* stream, void* event, unsigned)
{
    CURRENT;
    Event* waited = (Event*)event;
    long until = waited->recorded;
    put((Stream*)stream, [=] { reach(waited, until); });
    return OK;
}
Result cuEventCreate(void** out, unsigned) { CURRENT; *out = new Event; return OK; }
Result cuEventDestroy_v2(void* event) { CURRENT; delete (Event*)event; return OK; }
Result cuEventRecord(void* event, void* stream)
{
    CURRENT;
    Event* marked = (Event*)event;
    long number = ++marked->recorded;
    marked->stream = (Stream*)stream;
    put((Stream*)stream, [=] { marked->reached = number; });
    return OK;
}
Result cuEventSynchronize(void* event) { CURRENT; reach((Event*)event, ((Event*)event)->recorded); return lost; }
Result cuEventElapsedTime(float* out, void*, void*) { *out = 0.5f; return OK; }
Result cuEventElapsedTime_v2(float* out, void*, void*) { *out = 0.5f; return OK; }
Result cuMemAlloc_v2(void** out, size_t size) { CURRENT; return allocate(out, size, false, false); }
Result cuMemFree_v2(void* at) { CURRENT; return release(at); }
Result cuMemHostAlloc(void** out, size_t size, unsigned flags) { CURRENT; return allocate(out, size, true, flags & 2); }
Result cuMemFreeHost(void* at) { CURRENT; return release(at); }
Result cuMemHostGetDevicePointer_v2(void** out, void* at, unsigned) { CURRENT; *out = at; return living(at, 1, true) ? OK : INVALID; }
Result cuMemGetInfo_v2(size_t* free, size_t* total) { CURRENT; *free = TOTAL - used; *total = TOTAL; return OK; }
Result cuMemcpyHtoDAsync_v2(void* target, const void* source, size_t size, void* stream)
{
    CURRENT;
    if (!living(source, size, false)) return INVALID;
    put((Stream*)stream, copy(target, source, size, true, false));
    return OK;
}
Result cuMemcpyDtoHAsync_v2(void* target, const void* source, size_t size, void* stream)
{
    CURRENT;
    if (!living(target, size, false)) return INVALID;
    put((Stream*)stream, copy(target, source, size, false, true));
    return OK;
}
Result cuMemcpyDtoDAsync_v2(void* target, const void* source, size_t size, void* stream)
{
    CURRENT;
    put((Stream*)stream, copy(target, source, size, true, true));
    return OK;
}
Result cuLaunchHostFunc(void* stream, void (*function)(void*), void* given)
{
    CURRENT;
    put((Stream*)stream, [=] { function(given); });
    return OK;
}
Result cuStreamBeginCapture_v2(void* stream, int) { CURRENT; ((Stream*)stream)->recording = true; return OK; }
Result cuStreamEndCapture(void* stream, void** out)
{
    CURRENT;
    Stream* ended = (Stream*)stream;
    ended->recording = false;
    Graph* made = new Graph{ended->recorded};
    ended->recorded.clear();
    *out = made;
    if (ended->broken) { ended->broken = false; delete made; *out = nullptr; return CAPTURED; }
    return OK;
}
Result cuGraphInstantiateWithFlags(void** out, void* graph, unsigned long long) { CURRENT; *out = new Graph(*(Graph*)graph); return OK; }
Result cuGraphDestroy(void* graph) { delete (Graph*)graph; return OK; }
Result cuGraphExecDestroy(void* graph) { delete (Graph*)graph; return OK; }
Result cuGraphLaunch(void* graph, void* stream)
{
    CURRENT;
    for (const Work& work : ((Graph*)graph)->work) put((Stream*)stream, work);
    return OK;
}
Result cuModuleLoadData(void** out, const void* image) { CURRENT; *out = &the_context; return strstr((const char*)image, ".entry letterbox") ? OK : 218; }
Result cuModuleUnload(void*) { return OK; }
Result cuModuleGetFunction(void** out, void*, const char* name) { *out = &the_context; return strcmp(name, "letterbox") ? 500 : OK; }
Result cuLaunchKernel(void*, unsigned gx, unsigned gy, unsigned, unsigned bx, unsigned by, unsigned, unsigned, void* stream, void** given, void**)
{
    CURRENT;
    const unsigned char* frame = *(const unsigned char**)given[0];
    char* network = *(char**)given[1];
    long long pitch = *(long long*)given[2];
    int n[11];
    for (int i = 0; i < 11; i++) n[i] = *(int*)given[3 + i];
    put((Stream*)stream, [=] {
        if (!living(frame, pitch * (n[0] - 1) + n[1] * 3, true) || !living(network, n[2] * n[3] * (n[10] ? 12 : 3), true)) {
            lost = ILLEGAL;
            return;
        }
        blockDim.x = bx; blockDim.y = by;
        for (blockIdx.y = 0; blockIdx.y < (int)gy; blockIdx.y++) for (blockIdx.x = 0; blockIdx.x < (int)gx; blockIdx.x++)
            for (threadIdx.y = 0; threadIdx.y < (int)by; threadIdx.y++) for (threadIdx.x = 0; threadIdx.x < (int)bx; threadIdx.x++)
                letterbox(frame, network, pitch, n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10]);
    });
    return OK;
}
Result cuGetProcAddress_v2(const char* symbol, void** out, int, uint64_t, int* status)
{
    std::string name(symbol);
    Dl_info here;
    dladdr((void*)&cuInit, &here);
    void* self = dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *out = dlsym(self, name == "cuGraphInstantiate" ? "cuGraphInstantiateWithFlags" : (name + "_v2").c_str());
    if (!*out) *out = dlsym(self, symbol);
    if (status) *status = *out ? 0 : 1;
    return *out ? OK : 500;
}
static const struct { int code; const char *name, *text; } ERRORS[] = {
    {OK, "CUDA_SUCCESS", "no error"}, {INVALID, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}, {NO_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {NO_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}, {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"}, {ILLEGAL, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};
Result cuGetErrorName(int code, const char** out) { for (auto& e : ERRORS) if (e.code == code) { *out = e.name; return OK; } *out = nullptr; return INVALID; }
Result cuGetErrorString(int code, const char** out) { for (auto& e : ERRORS) if (e.code == code) { *out = e.text; return OK; } *out = nullptr; return INVALID; }
}
