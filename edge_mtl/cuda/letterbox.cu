// Letterbox of a frame that already lies on the GPU: the pre-processing of edge_mtl/frames.py, one thread a pixel.
// Compiled to PTX by `make ptx`; the tests compile it as plain C++ and compare it with OpenCV.
#ifndef __CUDACC__
#define __global__
#define __device__
struct Index { int x, y; };
static Index blockIdx, blockDim, threadIdx;
#endif

// OpenCV's INTER_LINEAR of bytes: weights of 11 bits, products added up exactly, rounded once.
__device__ static int weight_of(float fraction) { return (int)(fraction * 2048.0f + 0.5f); }

struct Tap { int first, second, weight; };

__device__ static Tap tap(int position, int size, int target)
{
    float at = (float)(((double)position + 0.5) * ((double)size / (double)target) - 0.5);
    int low = (int)at;
    if (low > at) low -= 1;
    float fraction = at - (float)low;
    Tap result;
    if (low < 0) { low = 0; fraction = 0.0f; }
    if (low >= size - 1) { low = size - 1; fraction = 0.0f; }
    result.first = low;
    result.second = low + 1 < size ? low + 1 : size - 1;
    result.weight = weight_of(fraction);
    return result;
}

__device__ static int sample(const unsigned char* frame, long long pitch, int channel, Tap row, Tap column)
{
    const unsigned char* upper = frame + row.first * pitch;
    const unsigned char* lower = frame + row.second * pitch;
    int left = 3 * column.first + channel, right = 3 * column.second + channel;
    int above = upper[left] * (2048 - column.weight) + upper[right] * column.weight;
    int below = lower[left] * (2048 - column.weight) + lower[right] * column.weight;
    long long sum = (long long)above * (2048 - row.weight) + (long long)below * row.weight;
    return (int)((sum + (1 << 21)) >> 22);
}

// frame: rows of `pitch` bytes, 3 bytes a pixel. planar: (3, H, W) float32 0..255, else (H, W, 3) uint8; always RGB.
// factor: samples a pixel and axis (1, 2 or 4), averaged.
extern "C" __global__ void letterbox(
    const unsigned char* frame, void* network, long long pitch, int frame_height, int frame_width, int height, int width,
    int content_height, int content_width, int top, int left, int factor, int swap, int planar)
{
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    int inside = y >= top && y < top + content_height && x >= left && x < left + content_width;
    for (int channel = 0; channel < 3; channel++) {
        int value = 0;
        if (inside) {
            int sum = 0, source = swap ? 2 - channel : channel;
            for (int dy = 0; dy < factor; dy++) {
                Tap row = tap((y - top) * factor + dy, frame_height, content_height * factor);
                for (int dx = 0; dx < factor; dx++) {
                    Tap column = tap((x - left) * factor + dx, frame_width, content_width * factor);
                    sum += sample(frame, pitch, source, row, column);
                }
            }
            int count = factor * factor;
            value = (sum + count / 2) / count;
        }
        if (planar)
            ((float*)network)[((long long)channel * height + y) * width + x] = (float)value;
        else
            ((unsigned char*)network)[((long long)y * width + x) * 3 + channel] = (unsigned char)value;
    }
}
