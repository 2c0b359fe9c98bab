/* timestamp.c: RFC 3339 without the C library's time zones. */
#include "timestamp.h"

#include <stdint.h>

static void digits(char *text, int64_t value, int width)
{
	for (int i = width - 1; i >= 0; i--, value /= 10)
		text[i] = (char)('0' + value % 10);
}

void timestamp(char text[TIMESTAMP], struct timespec when)
{
	int64_t day = (int64_t)when.tv_sec / 86400, second = (int64_t)when.tv_sec % 86400;
	/* Days to a date, in years that begin in March (their leap day is the last) and eras of 400 of them. */
	int64_t d = day + 719468, era = d / 146097, of_era = d % 146097;
	int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * year + year / 4 - year / 100), march = (5 * of_year + 2) / 153;
	int64_t month = march < 10 ? march + 3 : march - 9;
	const char *form = "0000-00-00T00:00:00.000000000Z";
	for (int i = 0; i < TIMESTAMP; i++)
		text[i] = form[i];
	digits(text, year + era * 400 + (month <= 2), 4);
	digits(text + 5, month, 2);
	digits(text + 8, of_year - (153 * march + 2) / 5 + 1, 2);
	digits(text + 11, second / 3600, 2);
	digits(text + 14, second / 60 % 60, 2);
	digits(text + 17, second % 60, 2);
	digits(text + 20, when.tv_nsec, 9);
}
