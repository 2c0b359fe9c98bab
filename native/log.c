/* log.c: log files as `k8s-file` (one line: TIME STREAM F|P TEXT) and `json-file` write them, and their rotation.
 *
 * A chunk is written as it comes: a line of which the end is not there yet is a record of its own (P; in JSON one
 * without \n at its end), so a prompt is seen by those who follow. */
#include "log.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "timestamp.h"

enum { NAME = PATH_MAX + 16 };

static struct {
	char path[PATH_MAX];
	enum log_driver driver; /* LOG_NONE: there is no file */
	int fd, files;
	uint64_t size, max_size;
	bool broken;    /* the record being written did not fit */
} file;

static _Alignas(4096) char buffer[4096];
static size_t used;
static uint64_t whole; /* the file's size up to the last complete record */

/* json-file: the beginning of a character whose rest has not come yet, per stream */
static struct {
	char bytes[4];
	size_t size;
} held[3];

static const char *const names[3] = { "", "stdout", "stderr" };

static void open_file(void)
{
	struct stat st;
	file.fd = open(file.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	file.size = file.fd >= 0 && fstat(file.fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	whole = file.size;
}

void log_open(const char *path, enum log_driver driver, uint64_t max_size, int files)
{
	size_t n = strlen(path);
	if (driver == LOG_NONE || n + 16 > sizeof file.path)
		return;
	memcpy(file.path, path, n + 1);
	file.driver = driver;
	file.max_size = max_size;
	file.files = files < 1 ? 1 : files;
	open_file();
}

static void numbered(char name[NAME], int number)
{
	if (number)
		snprintf(name, NAME, "%s.%d", file.path, number);
	else
		snprintf(name, NAME, "%s", file.path);
}

/* PATH.1 → PATH.2, PATH → PATH.1; the last one goes. With one file in all, it begins anew. */
static void rotate(void)
{
	char from[NAME], to[NAME];
	close(file.fd);
	for (int i = file.files - 1; i > 0; i--) {
		numbered(from, i - 1);
		numbered(to, i);
		rename(from, to);
	}
	if (file.files == 1)
		unlink(file.path);
	open_file();
}

static void flush(void)
{
	for (size_t done = 0; done < used && !file.broken;) {
		ssize_t n = write(file.fd, buffer + done, used - done);
		if (n <= 0) {
			file.broken = true; /* a full disk */
			break;
		}
		done += (size_t)n;
		file.size += (uint64_t)n;
	}
	used = 0;
}

static void put(const char *bytes, size_t size)
{
	while (size) {
		size_t n = sizeof buffer - used < size ? sizeof buffer - used : size;
		memcpy(buffer + used, bytes, n);
		used += n;
		bytes += n;
		size -= n;
		if (used == sizeof buffer)
			flush();
	}
}

static void put_text(const char *text)
{
	put(text, strlen(text));
}

static void begin_record(size_t size)
{
	if (file.max_size && file.size + used && file.size + used + size + 64 > file.max_size) {
		flush();
		rotate();
	}
}

/* Half a record would spoil the one that follows it: it is taken back. */
static void end_chunk(void)
{
	flush();
	if (file.broken && ftruncate(file.fd, (off_t)whole) == 0)
		file.size = whole;
	file.broken = false;
	whole = file.size;
}

/* ---- k8s-file ---- */

static void write_lines(int stream, const char *bytes, size_t size, const char time[TIMESTAMP])
{
	while (size) {
		const char *end = memchr(bytes, '\n', size);
		size_t n = end ? (size_t)(end - bytes) : size;
		begin_record(n);
		put(time, TIMESTAMP);
		put(stream == 1 ? " stdout " : " stderr ", 8);
		put(end ? "F " : "P ", 2);
		put(bytes, n);
		put("\n", 1);
		n += end != NULL;
		bytes += n;
		size -= n;
	}
}

/* ---- json-file ---- */

/* How many bytes the character at `p` has (RFC 3629): 0 it is none, -1 it is cut off. */
static int character(const unsigned char *p, size_t size)
{
	static const unsigned least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
	int length = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;
	unsigned value = length > 1 ? *p & (0xffU >> (length + 1)) : *p;
	for (int i = 1; i < length; i++) {
		if ((size_t)i == size)
			return -1;
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (p[i] & 0x3fU);
		/* what can only become a wrong character is one already: too long a form, a surrogate, beyond Unicode */
		if (i == 1 && ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
		               (*p == 0xf4 && p[1] > 0x8f)))
			return 0;
	}
	return length > 1 && value < least[length] ? 0 : length;
}

static void put_escaped(const unsigned char *p, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	while (size) {
		size_t plain = 0;
		while (plain < size && p[plain] >= 0x20 && p[plain] < 0x7f && p[plain] != '"' && p[plain] != '\\')
			plain++;
		put((const char *)p, plain);
		p += plain;
		size -= plain;
		if (!size)
			return;
		int n = character(p, size);
		if (n > 1) {
			put((const char *)p, (size_t)n);
		} else if (n <= 0) {
			put_text("\\ufffd");
			n = 1;
		} else if (*p == '"' || *p == '\\') {
			put((const char[]){ '\\', (char)*p }, 2);
		} else if (*p == '\n') {
			put_text("\\n");
		} else if (*p == '\r') {
			put_text("\\r");
		} else if (*p == '\t') {
			put_text("\\t");
		} else {
			put((const char[]){ '\\', 'u', '0', '0', hex[*p >> 4], hex[*p & 15] }, 6);
		}
		p += n;
		size -= (size_t)n;
	}
}

static void write_object(int stream, const char *start, size_t start_size, const char *bytes, size_t size,
                         const char time[TIMESTAMP])
{
	begin_record(start_size + size);
	put_text("{\"log\":\"");
	put_escaped((const unsigned char *)start, start_size);
	put_escaped((const unsigned char *)bytes, size);
	put_text("\",\"stream\":\"");
	put_text(names[stream]);
	put_text("\",\"time\":\"");
	put(time, TIMESTAMP);
	put_text("\"}\n");
}

/* A character may be cut by the end of a chunk: its beginning is held until the rest comes. */
static size_t cut_off(const unsigned char *bytes, size_t size)
{
	for (size_t n = 1; n <= 3 && n <= size; n++) {
		if ((bytes[size - n] & 0xc0) == 0x80)
			continue;
		return character(bytes + size - n, n) < 0 ? n : 0;
	}
	return 0;
}

static void write_objects(int stream, const char *bytes, size_t size, const char time[TIMESTAMP])
{
	char first[8];
	size_t first_size = held[stream].size;
	memcpy(first, held[stream].bytes, first_size);
	held[stream].size = 0;
	/* Complete the held character byte by byte; it is at most three long, so this ends. */
	while (first_size && size && character((const unsigned char *)first, first_size) < 0) {
		first[first_size++] = *bytes++;
		size--;
	}
	if (first_size && character((const unsigned char *)first, first_size) < 0) {
		memcpy(held[stream].bytes, first, first_size);
		held[stream].size = first_size;
		return;
	}
	/* The last byte taken may not belong to it. */
	if (first_size && character((const unsigned char *)first, first_size) == 0) {
		bytes--;
		size++;
		first_size--;
	}
	size_t cut = cut_off((const unsigned char *)bytes, size);
	memcpy(held[stream].bytes, bytes + size - cut, cut);
	held[stream].size = cut;
	size -= cut;
	while (size || first_size) {
		const char *end = size ? memchr(bytes, '\n', size) : NULL;
		size_t n = end ? (size_t)(end - bytes) + 1 : size;
		write_object(stream, first, first_size, bytes, n, time);
		first_size = 0;
		bytes += n;
		size -= n;
	}
}

/* ---- */

void log_write(int stream, const char *bytes, size_t size)
{
	char time[TIMESTAMP];
	struct timespec now;
	if (file.driver == LOG_NONE || !size)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	timestamp(time, now);
	if (file.driver == LOG_K8S_FILE)
		write_lines(stream, bytes, size, time);
	else
		write_objects(stream, bytes, size, time);
	end_chunk();
}

void log_end(int stream)
{
	char time[TIMESTAMP];
	struct timespec now;
	if (file.driver == LOG_NONE || !held[stream].size)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	timestamp(time, now);
	write_object(stream, held[stream].bytes, held[stream].size, "", 0, time);
	held[stream].size = 0;
	end_chunk();
}
