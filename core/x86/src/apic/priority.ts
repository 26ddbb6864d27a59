import type { ApicBlock } from './block.ts';
import { ApicReg } from './registers.ts';

/** Class of a vector or priority: its high four bits, in place. @spec SDM 3A §10.8.3 */
export const classOf = (priority: number): number => priority & 0xf0;

/** Processor priority: the task priority, or the class in service where that is higher. @spec SDM 3A §10.8.3.1 table 10-3 */
export const processorPriority = (block: ApicBlock): number => {
  const task = block.get(ApicReg.tpr);
  const service = classOf(Math.max(block.highest(ApicReg.isr), 0));
  return classOf(task) >= service ? task : service;
};

/** Arbitration priority of the P6 family. @spec SDM 3A §10.6.2.4 */
export const arbitrationPriority = (block: ApicBlock): number => {
  const task = block.get(ApicReg.tpr);
  const request = classOf(Math.max(block.highest(ApicReg.irr), 0));
  const service = classOf(Math.max(block.highest(ApicReg.isr), 0));
  return classOf(task) >= request && classOf(task) > service ? task : Math.max(request, service);
};

/** Highest requested vector whose class is above the processor priority, or -1. @spec SDM 3A §10.8.3 */
export const requestAbovePriority = (block: ApicBlock): number => {
  const vector = block.highest(ApicReg.irr);
  return vector >= 0 && classOf(vector) > classOf(processorPriority(block)) ? vector : -1;
};
