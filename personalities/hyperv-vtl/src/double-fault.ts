const DOUBLE_FAULT = 8;
const PAGE_FAULT = 14;
/** Divide error, invalid TSS, segment not present, stack fault, general protection. @spec SDM 3A Table 6-4 */
const contributory: ReadonlySet<number> = new Set([0, 10, 11, 12, 13]);

/**
 * What the processor delivers when an exception comes while another is due: a double fault where the two cannot be handled one after the other,
 * else the later one, since the instruction raises the earlier again.
 * @spec SDM 3A Table 6-5
 */
export const combinedFault = (first: number, second: number): number => {
  if (first === DOUBLE_FAULT) return DOUBLE_FAULT;
  const isSecondBad = contributory.has(second) || (first === PAGE_FAULT && second === PAGE_FAULT);
  return (contributory.has(first) || first === PAGE_FAULT) && isSecondBad ? DOUBLE_FAULT : second;
};
