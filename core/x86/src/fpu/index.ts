export * from './components.ts';
export * from './fxsave.ts';
export * from './save-area.ts';
export * from './x87.ts';
export * from './xsave.ts';
