import { HV_MESSAGE_SIZE } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { MessageQueue, type QueuedMessage } from './message-queue.ts';

const message = (tag: number): Uint8Array => new Uint8Array(HV_MESSAGE_SIZE).fill(1, 0, 1).fill(tag, 16, 17);
const tags = (queue: MessageQueue): number[] => queue.save().map((m) => m.message[16]!);
const filled = (...rows: readonly (readonly [sint: number, tag: number])[]): MessageQueue => {
  const queue = new MessageQueue();
  for (const [sint, tag] of rows) queue.add(sint, message(tag));
  return queue;
};

describe('message queue', () => {
  it('offers nothing behind a message that was not taken', () => {
    const queue = filled([2, 1], [2, 2], [3, 3]);
    const offered: number[] = [];
    queue.take((m: QueuedMessage) => {
      offered.push(m.message[16]!);
      return m.message[16] !== 1;
    });
    expect([offered, tags(queue)]).toEqual([[1, 3], [1, 2]]);
    expect([queue.holds(2), queue.holds(3), queue.isEmpty]).toEqual([true, false, false]);
  });

  it('puts what arrives meanwhile behind', () => {
    const queue = filled([2, 1], [2, 2]);
    queue.take((m) => {
      if (m.message[16] !== 1) return false;
      queue.add(2, message(9));
      return true;
    });
    expect(tags(queue)).toEqual([2, 9]);
  });

  it('keeps copies', () => {
    const queue = new MessageQueue();
    const sent = message(1);
    queue.add(2, sent);
    sent[16] = 5;
    const saved = queue.save();
    const other = new MessageQueue();
    other.restore(saved);
    saved[0]!.message[16] = 6;
    expect([tags(queue), tags(other), other.holds(2)]).toEqual([[1], [1], true]);
  });
});
