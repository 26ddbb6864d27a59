import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { assistPage, DATA, ready } from './guest.ts';

const INTERCEPT_PAGE = 1n << 12n;
/** Offset of the intercept message in the assist page. @spec TLFS HV_VP_ASSIST_PAGE */
const MESSAGE = 112;
const GPA_MESSAGE = 0x8000_0001;
const WRITE = 1;
const frame = DATA >> 12;

describe.each(policies)('under %s', (policy) => {
  it('TLFS Virtual Secure Mode, VsmPartitionConfig.InterceptPage: the message is in the assist page, the entry reason 3, no SINT used', () => {
    const guest = ready({ policy });
    guest.enter();
    guest.put('VsmPartitionConfig', guest.reg('VsmPartitionConfig') | INTERCEPT_PAGE);
    expect(guest.protect(0, frame).status).toBe(0);
    guest.leave();
    guest.plain({ op: 'work' });
    const access = guest.issue({ op: 'write', gpa: DATA, size: 1, value: 0x5a });
    expect([access.result, guest.active(), guest.entryReason()]).toEqual([null, 1, 3]);
    const message = guest.peek(1, assistPage(0, 1) + MESSAGE, 256);
    expect([message.getUint32(0, true), message.getUint8(16 + 5), message.getBigUint64(16 + 24, true)]).toEqual([GPA_MESSAGE, WRITE, guest.get('rip', 0, 0)]);
    expect(guest.message().getUint32(0, true)).toBe(0);
    // Once the page is open the instruction is done.
    expect(guest.protect(0xf, frame).status).toBe(0);
    guest.leave();
    guest.finish(access);
    expect([access.result !== null, guest.peek(0, DATA, 1).getUint8(0)]).toEqual([true, 0x5a]);
  });
});
